import { describe, expect, it } from 'vitest'
import { refusalBody } from '../../src/http/refusal-response.ts'
import { REASONS, type Refusal, type Slot } from '../../src/oauth/refusal.ts'

const SLOTS: readonly Slot[] = ['client', 'subject_token', 'actor_token', 'dpop', 'api', 'request']
const EVERY = REASONS.flatMap((reason) => SLOTS.map((slot): Refusal => ({ reason, slot })))

describe('the words of a refusal', () => {
  it('are a sentence for each reason, and never its name alone', () => {
    for (const refusal of EVERY) {
      const { error_description: said } = refusalBody({ ...refusal, proven: true })
      expect(said, refusal.reason).toMatch(/^\S+ \S+ \S+/)
      expect(said.toLowerCase(), refusal.reason).not.toBe(refusal.reason.replaceAll('_', ' '))
    }
    const said = REASONS.map((reason) => refusalBody({ reason, slot: 'request', proven: true }).error_description)
    expect(new Set(said).size).toBe(said.length)
  })

  it('name a next step to a proven caller, whatever the reason', () => {
    for (const refusal of EVERY)
      expect(refusalBody({ ...refusal, proven: true }).next, refusal.reason).toMatch(/^[^A-Z]\S* \S+/)
  })

  it('prefer the step that the decision itself named, and keep the general one beside its rule', () => {
    const refusal = { reason: 'policy_denied', slot: 'request', proven: true } as const
    expect(refusalBody({ ...refusal, explanation: { rule: 'r', next: 'ask for tickets:read_ticket' } })).toMatchObject({
      rule: 'r',
      next: 'ask for tickets:read_ticket',
    })
    expect(refusalBody({ ...refusal, explanation: { rule: 'r' } })).toMatchObject({
      rule: 'r',
      next: expect.stringContaining('ask for less'),
    })
  })

  it('send whoever presents an old user’s token to sign in, and whoever presents old evidence to attest', () => {
    const next = (slot: Slot) => refusalBody({ reason: 'expired', slot, proven: true }).next
    expect(next('subject_token')).toContain('signs in again')
    expect(next('actor_token')).toContain('attest again')
    expect(next('dpop')).toContain('fresh DPoP proof')
  })

  it('D21 tell a stranger the bare code: no next step ever, and the reason only of its own request’s form', () => {
    for (const refusal of EVERY) {
      const told = { ...refusal, detail: 'a detail', explanation: { rule: 'r', next: 'n', missing: ['m'] } }
      const body = refusalBody(told)
      expect(Object.keys(body).sort(), refusal.reason).toEqual(
        body.reason === undefined ? ['error', 'error_description'] : ['error', 'error_description', 'reason'],
      )
      if (body.reason === undefined) {
        expect(body.error_description).not.toBe('a detail')
        // One text for all that share a code: which of them it was cannot be read from it.
        expect(body).toEqual({
          error: body.error,
          error_description: refusalBody({ ...told, detail: '' }).error_description,
        })
      }
    }
    const bare = EVERY.map((refusal) => refusalBody(refusal)).filter(({ reason }) => reason === undefined)
    const texts = new Map<string, Set<string>>()
    for (const { error, error_description: said } of bare) texts.set(error, (texts.get(error) ?? new Set()).add(said))
    for (const [error, said] of texts) expect([...said], error).toHaveLength(1)
  })

  it('are plain ASCII, as RFC 6749 §5.2 wants the description', () => {
    for (const refusal of EVERY)
      expect(refusalBody({ ...refusal, proven: true }).error_description).toMatch(
        /^[\x20-\x21\x23-\x5b\x5d-\x7e]{1,300}$/,
      )
  })
})
