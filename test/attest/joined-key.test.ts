import { describe, expect, it } from 'vitest'
import { parseJws } from '@errand/verifier/jws.ts'
import { createClientAssertions } from '../../src/attest/client-assertion.ts'
import { createJoinedKey } from '../../src/attest/joined-key.ts'
import { agent, assertion, ISSUER, signingKey } from './house.ts'
import { NOW } from './pki.ts'

describe('a key that joined', () => {
  it('B1 is looked for by a thumbprint, and by nothing else that a stranger may send', async () => {
    const asked: string[] = []
    const attestor = createJoinedKey({
      assertions: createClientAssertions({ now: () => NOW, issuer: ISSUER }),
      agents: { byClientId: (clientId) => agent(clientId, { evidence: ['join_token'] }) },
      joining: {
        key: async (_, kid) => {
          asked.push(kid)
          return undefined
        },
      },
    })
    const key = signingKey('any')
    const reasonFor = async (kid: unknown) => {
      const jws = parseJws(await assertion(key, 'research', {}, { kid }))
      if (!jws.ok) return jws.fault
      const verified = await attestor.verify({ slot: 'client', jws: jws.value })
      return verified.ok ? 'accepted' : verified.refusal.reason
    }
    for (const kid of ['../../x', "' OR 1", 'x\0', '__proto__', 'x'.repeat(10_000), ['x'], 7, 'x'.repeat(42)])
      expect([kid, await reasonFor(kid)]).toEqual([kid, 'unknown_kid'])
    expect(asked).toEqual([])
    const thumbprint = 'x'.repeat(43)
    expect([await reasonFor(thumbprint), asked]).toEqual(['unknown_kid', [thumbprint]])
  })
})
