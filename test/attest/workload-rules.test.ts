import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { AgentRegistration } from '../../src/attest/registration.ts'
import {
  ambiguousRules,
  type ClaimCondition,
  type ClaimValue,
  createWorkloadRules,
  type WorkloadRule,
} from '../../src/attest/workload-rules.ts'
import { agent } from './house.ts'

const ISS = 'https://token.actions.example'
const rule = (claims: Record<string, ClaimValue | readonly ClaimValue[]>, issuer = ISS): WorkloadRule => ({
  issuer,
  conditions: Object.entries(claims).map(
    ([name, value]): ClaimCondition => ({ path: name.split('>'), oneOf: Array.isArray(value) ? value : [value] }),
  ),
})
const withRules = (name: string, ...workload: WorkloadRule[]): AgentRegistration => agent(name, { workload })
const ambiguous = (...agents: AgentRegistration[]) =>
  ambiguousRules(agents).map((each) => `${each.agent.clientId} ${each.rule} ${each.other.clientId}`)

describe('which agent a workload token is of', () => {
  it('compares values by type and never by what they look like', () => {
    const { match } = createWorkloadRules([withRules('a', rule({ project: 7, protected: true }))])
    expect(match(ISS, { project: 7, protected: true })?.agent.clientId).toBe('a')
    for (const payload of [
      { project: '7', protected: true },
      { project: 7, protected: 'true' },
      { project: [7], protected: true },
      { project: 7 },
      { protected: true },
      { project: null, protected: true },
      {},
    ]) {
      expect(match(ISS, payload)).toBeUndefined()
    }
    expect(match('https://other.example', { project: 7, protected: true })).toBeUndefined()
  })

  it('A10 looks at no member that the token does not have itself', () => {
    const { match } = createWorkloadRules([withRules('a', rule({ 'constructor>name': 'Object' }))])
    expect(match(ISS, {})).toBeUndefined()
    expect(match(ISS, { constructor: { name: 'Object' } })?.agent.clientId).toBe('a')
  })

  it('knows the workload by what the rule names, and by nothing else of the token', () => {
    const { match } = createWorkloadRules([withRules('a', rule({ repository: ['x/a', 'x/b'], ref: 'main' }))])
    const one = match(ISS, { repository: 'x/a', ref: 'main', run: '1' })
    expect(match(ISS, { ref: 'main', repository: 'x/a', run: '2' })?.principals).toEqual(one?.principals)
    expect(match(ISS, { ref: 'main', repository: 'x/b' })?.principals).not.toEqual(one?.principals)
  })
})

describe('rules that one token could fulfil for two agents', () => {
  it('are found where what both look at can be the same', () => {
    expect(ambiguous(withRules('a', rule({ repo: 'x' })), withRules('b', rule({ repo: 'y' })))).toEqual([])
    expect(ambiguous(withRules('a', rule({ repo: 'x' })), withRules('b', rule({ repo: 'x' })))).toEqual(['b 0 a'])
    expect(ambiguous(withRules('a', rule({ repo: 'x' })), withRules('b', rule({ repo: ['y', 'x'] })))).toEqual([
      'b 0 a',
    ])
    // The one looks more closely than the other.
    const narrow = withRules('b', rule({ repo: 'x', ref: 'main' }))
    expect(ambiguous(withRules('a', rule({ repo: 'x' })), narrow)).toEqual(['b 0 a'])
    expect(ambiguous(withRules('a', rule({ repo: 'y' })), narrow)).toEqual([])
    // They look at different claims: a token may fulfil both.
    expect(ambiguous(withRules('a', rule({ repo: 'x' })), withRules('b', rule({ actor: 'y' })))).toEqual(['b 0 a'])
    // Of two issuers no token is.
    const elsewhere = withRules('b', rule({ repo: 'x' }, 'https://other.example'))
    expect(ambiguous(withRules('a', rule({ repo: 'x' })), elsewhere)).toEqual([])
    // One agent may say twice what it is.
    expect(ambiguous(withRules('a', rule({ repo: 'x' }), rule({ repo: 'x', ref: 'main' })))).toEqual([])
    // Types make values two.
    expect(ambiguous(withRules('a', rule({ id: 7 })), withRules('b', rule({ id: '7' })))).toEqual([])
  })

  it('are found exactly: whatever is not refused leaves each token one agent', () => {
    const name = fc.constantFrom('p', 'q', 'r')
    const value = fc.constantFrom<ClaimValue>('1', '2', 1)
    const claims = fc.dictionary(name, fc.uniqueArray(value, { minLength: 1, maxLength: 2 }), { minKeys: 1 })
    const rules = fc.array(claims, { minLength: 1, maxLength: 2 })
    fc.assert(
      fc.property(rules, rules, (first, second) => {
        const agents = [
          withRules('a', ...first.map((each) => rule(each))),
          withRules('b', ...second.map((each) => rule(each))),
        ]
        const fulfils = (payload: Record<string, ClaimValue>, owner: AgentRegistration) =>
          (owner.workload ?? []).some(({ conditions }) =>
            conditions.every(({ path, oneOf }) => oneOf.includes(payload[path[0]!]!)),
          )
        const values: ClaimValue[] = ['1', '2', 1]
        const payloads = values.flatMap((p) => values.flatMap((q) => values.map((r) => ({ p, q, r }))))
        const both = payloads.some((payload) => agents.every((each) => fulfils(payload, each)))
        expect(ambiguousRules(agents).length > 0).toBe(both)
        if (both) return
        const { match } = createWorkloadRules(agents)
        for (const payload of payloads) {
          expect(match(ISS, payload)?.agent).toBe(agents.find((each) => fulfils(payload, each)))
        }
      }),
    )
  })

  it('cost one look each, also for ten thousand agents', () => {
    const many = Array.from({ length: 10_000 }, (_, index) => withRules(`a${index}`, rule({ repo: `x/${index}` })))
    expect(ambiguousRules(many)).toEqual([])
    const { match } = createWorkloadRules(many)
    expect(match(ISS, { repo: 'x/9999' })?.agent.clientId).toBe('a9999')
  })
})
