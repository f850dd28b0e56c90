/** An agent for tests: a clock that moves only when told, waits that are noted and not waited. */
import { type AgentOptions, createAgent, privateKeyJwt } from '@errand/agent'
import { generateKeyPairSync } from '../key-pairs.ts'

export const agentKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' })

export function agentAt(issuer: string, options: Partial<AgentOptions> = {}) {
  const clock = { now: 1_800_000_000 }
  const waits: number[] = []
  const agent = createAgent({
    issuer,
    evidence: privateKeyJwt({ clientId: 'research', key: { ...agentKey, kty: 'EC', kid: 'research-1' } }),
    now: () => clock.now,
    wait: async (milliseconds) => void waits.push(milliseconds),
    ...options,
  })
  return { agent, clock, waits }
}

export const details = {
  subjectToken: 'alice-token',
  purpose: 'Find out why order 4711 was refunded twice',
  environment: 'production',
  dataClassification: 'internal',
  deadlineSeconds: 900,
} as const
