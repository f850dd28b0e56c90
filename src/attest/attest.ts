/**
 * Evidence in, attestation result out (RFC 9334). The kind is told from the assertion type and the content, its
 * attestor says who that is, and the registration says whether it may attest so. Nothing is spent here: what may be
 * used once is spent by the caller with `spendEvidence`, after everything that needs no store was checked.
 */
import type { Tier } from '@errand/verifier/claims.ts'
import { type ParsedJws, parseJws } from '@errand/verifier/jws.ts'
import { ok, type Reason, type Result, refuse } from '../oauth/refusal.ts'
import { ASSERTION_TYPE } from '../oauth/words.ts'
import type { AttestationResult } from './attestation-result.ts'
import type { AgentLookup, Attestor, Evidence, EvidenceSlot, Proven } from './attestor.ts'
import { createClientAssertions } from './client-assertion.ts'
import { createJwtSvid } from './jwt-svid.ts'
import type { KeyPins, PrincipalBindings } from './key-pins.ts'
import { createPrivateKeyJwt } from './private-key-jwt.ts'
import type { MachineClient } from './registration.ts'
import type { ReplayGuard } from './replay-guard.ts'
import type { TrustDomain } from './trust-domain.ts'
import { createX509Svid } from './x509-svid.ts'

export interface Presentation {
  readonly slot: EvidenceSlot
  /** `type` is `client_assertion_type`; at endpoints without that parameter the content tells the kind. */
  readonly assertion?: { readonly type?: string; readonly token: string }
  /** What the request calls its client, by parameter or header. */
  readonly clientId?: string
  /** The client's certificates from mTLS: DER, leaf first. */
  readonly certificate?: readonly Uint8Array[]
}

export type Attest = (presentation: Presentation) => Promise<Result<AttestationResult>>

export interface AttestDeps {
  readonly now: () => number
  /** Our own issuer identifier. */
  readonly issuer: string
  /** Reads the configuration in force at the time of the call. */
  readonly agents: AgentLookup
  readonly trustDomains: (name: string) => TrustDomain | undefined
  readonly principalBindings: PrincipalBindings
}

export function createAttest(deps: AttestDeps): Attest {
  const { agents, trustDomains, now } = deps
  const privateKeyJwt = createPrivateKeyJwt({ assertions: createClientAssertions(deps), agents })
  const jwtSvid = createJwtSvid(deps)
  const x509Svid = createX509Svid({ now, agents, trustDomains })

  const choose = ({ slot, assertion, certificate }: Presentation): Result<{ by: Attestor; evidence: Evidence }> => {
    if (assertion === undefined) {
      if (certificate === undefined) return refuse('client_auth_required', slot)
      return ok({ by: x509Svid, evidence: { slot, chain: certificate } })
    }
    const jws = parseJws(assertion.token)
    if (!jws.ok) return refuse(jws.fault, slot)
    const svid = namesSpiffe(jws.value)
    const by = svid ? jwtSvid : privateKeyJwt
    if (assertion.type !== undefined) {
      const expected = svid ? ASSERTION_TYPE.jwtSpiffe : ASSERTION_TYPE.jwtBearer
      if (assertion.type !== expected) {
        return refuse('wrong_typ', slot, { detail: `this assertion is of the type ${expected}` })
      }
    }
    return ok({ by, evidence: { slot, jws: jws.value } })
  }

  return async (presentation) => {
    const { slot } = presentation
    const chosen = choose(presentation)
    if (!chosen.ok) return chosen
    const { by, evidence } = chosen.value
    // RFC 8705 §2: a certificate alone does not say which client is meant.
    if (by === x509Svid && presentation.clientId === undefined) {
      return refuse('param_missing', slot, { detail: 'client_id is required with a client certificate' })
    }
    const proven = by.verify(evidence)
    if (!proven.ok) return proven
    const fault = await objection(deps, presentation, by, proven.value)
    if (fault !== undefined) {
      const { reason, detail, stranger } = fault
      return refuse(reason, slot, { proven: !stranger, ...(detail === undefined ? {} : { detail }) })
    }
    return ok({ ...proven.value, kind: by.kind, tier: by.tier, spiffeId: proven.value.agent.spiffeId })
  }
}

/** Content alone: a JWT-SVID has a SPIFFE id as its subject, and no `client_id` looks like one. */
const namesSpiffe = ({ payload }: ParsedJws): boolean => {
  const sub = payload['sub']
  return typeof sub === 'string' && /^(?:spiffe|wimse):/i.test(sub)
}

const TIERS: readonly Tier[] = ['key', 'platform', 'measured']

interface Objection {
  readonly reason: Reason
  readonly detail?: string
  /** Told no more than somebody whom we do not know. */
  readonly stranger?: true
}

/** What the registration has against evidence that is good in itself. */
async function objection(
  deps: AttestDeps,
  { clientId }: Presentation,
  { kind, tier }: Attestor,
  { agent, issuedAt }: Proven,
): Promise<Objection | undefined> {
  if (agent.disabled) return { reason: 'agent_disabled', stranger: true }
  if (!agent.evidence.includes(kind)) {
    return { reason: 'evidence_not_registered', detail: `${agent.clientId} is not registered to attest by ${kind}` }
  }
  if (agent.minimumTier !== undefined && TIERS.indexOf(tier) < TIERS.indexOf(agent.minimumTier)) {
    return { reason: 'evidence_not_registered', detail: `${agent.clientId} must attest with tier ${agent.minimumTier}` }
  }
  // draft-ietf-oauth-spiffe-client-auth §3: a client may be called by its SPIFFE id.
  const called = kind === 'private_key_jwt' ? [agent.clientId] : [agent.clientId, agent.spiffeId]
  if (clientId !== undefined && !called.includes(clientId)) {
    return { reason: 'context_mismatch', detail: 'client_id and the evidence name two agents' }
  }
  // A SPIFFE id may pass to another agent while evidence of the old one still lives. A key cannot: it is registered.
  const moved = await deps.principalBindings.since(agent.spiffeId, agent.clientId, deps.now())
  const since = Math.max(agent.instanceSince ?? 0, kind === 'private_key_jwt' ? 0 : moved)
  if (since > 0 && (issuedAt === undefined || issuedAt < since)) return { reason: 'instance_epoch' }
  return undefined
}

/**
 * Spends one-use evidence; standing evidence passes. Throws `Unavailable('replay_guard_unavailable')` where it cannot
 * be known whether this use is the first.
 */
export async function spendEvidence(
  { oneUse }: Pick<AttestationResult, 'oneUse'>,
  replayGuard: ReplayGuard,
  slot: EvidenceSlot = 'client',
): Promise<Result<true>> {
  if (oneUse === undefined || (await replayGuard.spend(oneUse.id, oneUse.expiresAt))) return ok(true)
  return refuse('evidence_replayed', slot)
}

/** Standing evidence without a key belongs to the first proof key seen with it; evidence with a key, to that key. */
export async function pinProofKey(
  { standingId, expiresAt }: Pick<AttestationResult, 'standingId' | 'expiresAt'>,
  jkt: string,
  keyPins: KeyPins,
  slot: EvidenceSlot = 'client',
): Promise<Result<true>> {
  if (standingId === undefined || (await keyPins.pin(standingId, jkt, expiresAt)) === jkt) return ok(true)
  return refuse('key_switch', slot)
}

/** C5: whether one token serves as both, under whatever encoding of its signature. */
export const isSelfActor = (subjectToken: string, actorToken: string): boolean =>
  subjectToken.slice(0, subjectToken.lastIndexOf('.')) === actorToken.slice(0, actorToken.lastIndexOf('.'))

export interface MachineProof {
  readonly machine: MachineClient
  readonly expiresAt: number
  readonly oneUse: { readonly id: string; readonly expiresAt: number }
  /** The key that signed: an administrator's DPoP proof must be made with the same. */
  readonly keyThumbprint: string
}

export type AuthenticateMachine = (presentation: Presentation) => Promise<Result<MachineProof>>

/** Tools and administrators: by `private_key_jwt`, with the same rules as an agent's. */
export function createAuthenticateMachine(deps: {
  readonly now: () => number
  readonly issuer: string
  readonly machines: (clientId: string) => MachineClient | undefined
}): AuthenticateMachine {
  const assertions = createClientAssertions(deps)
  return async ({ slot, assertion, clientId }) => {
    if (assertion === undefined) return refuse('client_auth_required', slot)
    if (assertion.type !== undefined && assertion.type !== ASSERTION_TYPE.jwtBearer) {
      return refuse('wrong_typ', slot, { detail: `this client authenticates with ${ASSERTION_TYPE.jwtBearer}` })
    }
    const jws = parseJws(assertion.token)
    if (!jws.ok) return refuse(jws.fault, slot)
    const verified = assertions.verify(jws.value, slot, deps.machines)
    if (!verified.ok) return verified
    const { client: machine, expiresAt, oneUse, keyThumbprint } = verified.value
    if (clientId !== undefined && clientId !== machine.clientId) {
      return refuse('context_mismatch', slot, { proven: true, detail: 'client_id and the assertion name two clients' })
    }
    return ok({ machine, expiresAt, oneUse, keyThumbprint })
  }
}
