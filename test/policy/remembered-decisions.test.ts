/** A decision that is remembered is the one that would be made. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Decide, DecisionQuestion } from '../../src/policy/decision.ts'
import { rememberDecisions } from '../../src/policy/remembered-decisions.ts'
import { agent, decideBy, everything, facts, MONDAY_TEN, payments, tickets } from './policies.ts'

const POLICIES = `
@id("reads") permit (principal, action in Action::"effect:read", resource) when { context.hour_utc >= 9 };
@id("comments") permit (principal == Agent::"research", action == Action::"tickets:comment", resource)
  when { context.subject.groups.contains("support") && context.environment != "production" };
@id("refunds") @ttl_seconds("60") permit (principal, action == Action::"payments:refund", resource)
  when { context.tier == "platform" && context.depth == 1 };
@id("bound") forbid (principal, action, resource) when { context.sender_constraint == "bearer" };
`

const agents = [agent('external'), agent('read'), agent('external', everything, 'payments')]
const question: fc.Arbitrary<DecisionQuestion> = fc
  .record({
    agent: fc.constantFrom(...agents),
    tier: fc.constantFrom('key' as const, 'platform' as const),
    groups: fc.constantFrom([], ['support'], ['support', 'finance']),
    environment: fc.constantFrom('production', 'staging'),
    depth: fc.constantFrom(1, 2),
    senderConstraint: fc.constantFrom('dpop' as const, 'bearer' as const),
    now: fc.constantFrom(MONDAY_TEN, MONDAY_TEN + 1, MONDAY_TEN - 2 * 3600),
    tool: fc.constantFrom(tickets, payments),
    requested: fc.constantFrom(undefined, ['read'], ['comment', 'read'], ['refund']),
    ceiling: fc.constantFrom(everything, everything.slice(0, 2)),
    task: fc.constantFrom(undefined, everything, everything.slice(1)),
  })
  .map(({ tool, requested, ceiling, task, ...of }) => ({
    tools: [tool],
    ...(requested ? { requested: requested.map((operation) => ({ tool: tool.name, operation })) } : {}),
    operands: { ceiling, ...(task ? { task: [...task] } : {}) },
    facts: facts({
      agent: of.agent,
      attestation: { kind: 'jwt_svid', tier: of.tier },
      subject: { ...facts().subject, groups: of.groups },
      task: { environment: of.environment, dataClassification: 'internal', depth: of.depth },
      senderConstraint: of.senderConstraint,
      now: of.now,
    }),
  }))

describe('a remembered decision', () => {
  it('is the one that would be made, whatever was asked before', () => {
    const remembering = decideBy(POLICIES)
    const afresh = (asked: DecisionQuestion) => decideBy(POLICIES)(asked)
    fc.assert(
      fc.property(fc.array(question, { minLength: 1, maxLength: 6 }), (questions) => {
        for (const asked of questions) expect(remembering(asked)).toEqual(afresh(asked))
      }),
      { numRuns: 60 },
    )
  })

  it('is made once for what says the same, and again when time is read and has gone on', () => {
    let made = 0
    const counting: Decide = (asked) => {
      made += 1
      return decideBy(POLICIES)(asked)
    }
    const byHour = rememberDecisions(counting, ({ facts: { now } }) => String(Math.floor(now / 3600)))
    const ask = (now: number): DecisionQuestion => ({
      tools: [tickets],
      operands: { ceiling: [...everything] },
      facts: facts({ agent: agents[0]!, now }),
    })
    byHour(ask(MONDAY_TEN))
    byHour(ask(MONDAY_TEN + 60))
    expect(made).toBe(1)
    byHour(ask(MONDAY_TEN + 3600))
    expect(made).toBe(2)
    byHour({ ...ask(MONDAY_TEN), whole: true })
    expect(made).toBe(3)
  })

  it('is forgotten by its weight: who asks for much has no more of the memory than who asks for little', () => {
    let made = 0
    const own = facts({ agent: agents[0]! })
    const decision = decideBy(POLICIES)({ tools: [tickets], operands: { ceiling: [] }, facts: own })
    const counting: Decide = ({ requested = [] }) => {
      made += 1
      return { ...decision, verdicts: requested.map(() => decision.verdicts[0]!) }
    }
    const asking = (operations: number) => {
      const remembering = rememberDecisions(counting, () => '')
      return (n: number): number => {
        const requested = Array.from({ length: operations }, (_, at) => ({ tool: 'tickets', operation: `o${n}_${at}` }))
        const before = made
        remembering({ tools: [tickets], requested, operands: { ceiling: [] }, facts: own })
        return made - before
      }
    }
    const little = asking(1)
    const much = asking(200)
    for (let n = 0; n < 500; n++) {
      little(n)
      much(n)
    }
    expect([little(0), little(499)]).toEqual([0, 0])
    expect([much(0), much(499)]).toEqual([1, 0])
  })
})
