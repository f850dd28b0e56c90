/** A small world for attestation: one trust domain, a few registered agents, a clock that stands still. */
import { type KeyObject, randomBytes } from 'node:crypto'
import { type JWK, SignJWT } from 'jose'
import { createAttest, createAuthenticateMachine } from '../../src/attest/attest.ts'
import type { KeyPins, PrincipalBindings } from '../../src/attest/key-pins.ts'
import type { AgentRegistration, MachineClient } from '../../src/attest/registration.ts'
import type { ReplayGuard } from '../../src/attest/replay-guard.ts'
import type { TrustDomain } from '../../src/attest/trust-domain.ts'
import { createWindowed, type Windowed } from '../../src/attest/windowed.ts'
import type { Attester, WorkloadIssuer } from '../../src/attest/workload-issuer.ts'
import { createWorkloadRules } from '../../src/attest/workload-rules.ts'
import { createTestTrustDomain, NOW, type TestTrustDomain } from './pki.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

export const ISSUER = 'https://errand.example'
export const ASSERTION = {
  jwtBearer: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
  jwtSpiffe: 'urn:ietf:params:oauth:client-assertion-type:jwt-spiffe',
}

export interface SigningKey {
  readonly privateKey: KeyObject
  readonly jwk: JWK
}

export function signingKey(kid: string, curve: 'P-256' | 'Ed25519' = 'P-256'): SigningKey {
  const pair = curve === 'P-256' ? generateKeyPairSync('ec', { namedCurve: 'P-256' }) : generateKeyPairSync('ed25519')
  const alg = curve === 'P-256' ? 'ES256' : 'EdDSA'
  return { privateKey: pair.privateKey, jwk: { ...(pair.publicKey.export({ format: 'jwk' }) as JWK), kid, alg } }
}

/** A client assertion that is good unless told otherwise; `undefined` removes a member. */
export function assertion(
  key: SigningKey,
  clientId: string,
  claims: Record<string, unknown> = {},
  header: Record<string, unknown> = {},
): Promise<string> {
  return new SignJWT({
    iss: clientId,
    sub: clientId,
    aud: ISSUER,
    jti: crypto.randomUUID(),
    iat: NOW - 1,
    exp: NOW + 60,
    ...claims,
  })
    .setProtectedHeader({ alg: String(key.jwk.alg), kid: String(key.jwk.kid), ...header })
    .sign(key.privateKey)
}

export const agent = (clientId: string, more: Partial<AgentRegistration> = {}): AgentRegistration => ({
  clientId,
  spiffeId: `spiffe://company.example/agents/${clientId}`,
  displayName: clientId,
  disabled: false,
  evidence: ['private_key_jwt', 'jwt_svid', 'x509_svid'],
  keys: [],
  stage: 'read',
  ceiling: [],
  autonomous: false,
  delegatesTo: [],
  file: `config/agents/${clientId}.yaml`,
  ...more,
})

export interface AttestHouse {
  now: number
  readonly domain: TestTrustDomain
  readonly key: SigningKey
  readonly agents: Map<string, AgentRegistration>
  readonly trustDomains: Map<string, TrustDomain>
  /** By `iss`. */
  readonly workloadIssuers: Map<string, WorkloadIssuer>
  readonly attesters: Map<string, Attester>
  readonly challenges: Windowed
  readonly attest: ReturnType<typeof createAttest>
  readonly authenticateMachine: ReturnType<typeof createAuthenticateMachine>
  readonly replayGuard: ReplayGuard
  readonly keyPins: KeyPins
}

export async function createAttestHouse(machines: readonly MachineClient[] = []): Promise<AttestHouse> {
  const domain = await createTestTrustDomain('company.example')
  const key = signingKey('k1')
  const agents = new Map([
    ['research', agent('research', { keys: [key.jwk] })],
    ['payments', agent('payments')],
  ])
  const trustDomains = new Map([[domain.name, domain.trustDomain]])
  const workloadIssuers = new Map<string, WorkloadIssuer>()
  const attesters = new Map<string, Attester>()
  const challenges = createWindowed({
    now: () => house.now,
    key: randomBytes(32),
    lifetimeSeconds: 60,
    purpose: 'test',
  })
  const spent = new Set<string>()
  const pins = new Map<string, string>()
  const bindings = new Map<string, { clientId: string; since: number }>()
  const principalBindings: PrincipalBindings = {
    since: async (spiffeId, clientId, now) => {
      const bound = bindings.get(spiffeId)
      if (bound?.clientId === clientId) return bound.since
      const since = bound === undefined ? 0 : now
      bindings.set(spiffeId, { clientId, since })
      return since
    },
  }
  const house = {
    now: NOW,
    domain,
    key,
    agents,
    trustDomains,
    workloadIssuers,
    attesters,
    challenges,
    replayGuard: { spend: async (id: string) => !spent.has(id) && Boolean(spent.add(id)) },
    keyPins: {
      pin: async (id: string, thumbprint: string) => {
        const pinned = pins.get(id) ?? thumbprint
        pins.set(id, pinned)
        return pinned
      },
      pinned: async (id: string) => pins.get(id),
    },
  }
  const now = () => house.now
  return Object.assign(house, {
    attest: createAttest({
      now,
      issuer: ISSUER,
      agents: {
        byClientId: (clientId) => agents.get(clientId),
        bySpiffeId: (spiffeId) => [...agents.values()].find((each) => each.spiffeId === spiffeId),
        byWorkload: (issuer, payload) => createWorkloadRules([...agents.values()]).match(issuer, payload),
        byAttestedSubject: (subject) => {
          for (const each of agents.values()) {
            const named = each.attestedBy?.find((by) => by.subject === subject)
            if (named) return { agent: each, attester: named.attester }
          }
          return undefined
        },
      },
      workloadIssuers: (iss) => workloadIssuers.get(iss),
      attesters: (name) => attesters.get(name),
      challenges,
      challengeRequired: true,
      proofLifetimeSeconds: 60,
      trustDomains: (name) => trustDomains.get(name),
      principalBindings,
      joining: { key: async () => undefined },
    }),
    authenticateMachine: createAuthenticateMachine({
      now,
      issuer: ISSUER,
      machines: (clientId) => machines.find((machine) => machine.clientId === clientId),
    }),
  })
}
