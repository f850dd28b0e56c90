/**
 * Agent platforms: they host agents that nobody registers here, and speak for each of them (Workload Authorization
 * Grant). An agent of a platform is a principal of its own, named by issuer and subject, with the platform's authority
 * as its cap.
 */
import { createHash } from 'node:crypto'
import type { Grant } from '@errand/verifier/claims.ts'
import type { AgentRegistration, JWK, Stage } from './registration.ts'

export interface AgentPlatform {
  /** Our name for it. */
  readonly name: string
  /** Compared as an exact string with `iss`. */
  readonly issuer: string
  keys(kid: string): Promise<JWK | undefined>
  readonly algorithms: readonly ('ES256' | 'EdDSA' | 'RS256' | 'PS256' | 'ES384')[]
  /** Tells platforms under one issuer apart: only assertions with this claim of this value are its own. */
  readonly tenant?: { readonly claim: string; readonly value: string }
  /** Its agents' ids are in this trust domain, which nobody else has here. */
  readonly trustDomain: string
  readonly maxAssertionLifetimeSeconds: number
  readonly maxAgents: number
  /** An agent that has not come for so long counts no more. */
  readonly forgetAfterSeconds: number
  /** Agents, by `sub`, for whom nothing is done. */
  readonly disabledSubjects: ReadonlySet<string>
  readonly groupsClaim: string
  readonly claims: readonly string[]
  /** What each of its agents may do at most. */
  readonly stage: Stage
  readonly ceiling: readonly Grant[]
  readonly defaultTask?: string
  readonly file: string
}

/** Of the form of client_ids that no file can register: they hold no colon. */
const PREFIX = 'platform:'
const digestOf = (issuer: string, sub: string): string =>
  createHash('sha256').update(issuer).update('\0').update(sub).digest('base64url').slice(0, 22)

export const platformClientId = ({ name, issuer }: Pick<AgentPlatform, 'name' | 'issuer'>, sub: string): string =>
  `${PREFIX}${name}:${digestOf(issuer, sub)}`

/** Under which policies know all agents of a platform. */
export const platformPrincipal = (name: string): string => `${PREFIX}${name}`

/** The registration that an unseen agent would have, had somebody written it. */
export const registrationOf = (platform: AgentPlatform, sub: string): AgentRegistration => ({
  clientId: platformClientId(platform, sub),
  spiffeId: `spiffe://${platform.trustDomain}/${digestOf(platform.issuer, sub)}`,
  displayName: `an agent of ${platform.name}`,
  platform: platform.name,
  disabled: platform.disabledSubjects.has(sub),
  evidence: ['workload_grant'],
  keys: [],
  stage: platform.stage,
  ceiling: platform.ceiling,
  autonomous: true,
  delegatesTo: [],
  ...(platform.defaultTask === undefined ? {} : { defaultTask: platform.defaultTask }),
  file: platform.file,
})
