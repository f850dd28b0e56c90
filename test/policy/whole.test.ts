/** A decision that is judged at every operand: it permits the same, tells where else it was lost, and what is left. */
import type { Grant } from '@errand/verifier/claims.ts'
import { grantsWithin } from '@errand/verifier/grants.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { STAGES } from '../../src/attest/registration.ts'
import type { AuditRecord } from '../../src/audit/log.ts'
import { readIntersection, wholeRowsOf } from '../../src/exchange/intersection.ts'
import { type DecisionQuestion, OPERANDS } from '../../src/policy/decision.ts'
import { agent, decideBy, everything, facts, payments, tickets } from './policies.ts'

const grant = ({ tool, operation }: Pick<Grant, 'tool' | 'operation'>, max?: number): Grant => ({
  tool,
  operation,
  ...(max === undefined
    ? {}
    : { constraints: { type: 'object', properties: { amount_cents: { type: 'integer', maximum: max } } } as const }),
})
const anyGrants = fc.array(
  fc
    .tuple(fc.constantFrom(...everything), fc.option(fc.integer({ min: 1, max: 600_000 }), { nil: undefined }))
    .map(([named, max]) => grant(named, max)),
  { minLength: 1, maxLength: 8 },
)
/** Most of what there is, so that something is left more often than not. */
const nearly = fc
  .tuple(fc.subarray([...everything], { minLength: everything.length - 3 }), fc.integer({ min: 1, max: 600_000 }))
  .map(([named, max]) => named.map((each, at) => grant(each, at % 2 === 0 ? max : undefined)))
const anyQuestion: fc.Arbitrary<DecisionQuestion> = fc
  .record({
    operands: fc.record(
      { subject: nearly, ceiling: nearly, task: nearly, parent: nearly },
      { requiredKeys: ['ceiling'] },
    ),
    requested: anyGrants,
    stage: fc.constantFrom(...STAGES),
  })
  .map(({ operands, requested, stage }) => ({
    operands,
    requested,
    tools: [tickets, payments],
    facts: facts({ agent: agent(stage) }),
  }))

const decide = decideBy(
  '@id("reads") permit (principal, action in Action::"effect:read", resource); @id("refund") permit (principal == Agent::"research", action == Action::"payments:refund", resource);',
)

describe('a decision judged whole', () => {
  it('permits exactly the same, and the operand at which it was lost first is the same', () => {
    fc.assert(
      fc.property(anyQuestion, (question) => {
        const short = decide(question)
        const whole = decide({ ...question, whole: true })
        expect(whole.permitted).toEqual(short.permitted)
        expect(whole.allowed).toBe(short.allowed)
        for (const [at, verdict] of whole.verdicts.entries()) {
          const before = short.verdicts[at]!
          expect(verdict.permitted).toBe(before.permitted)
          expect(verdict.lostAt).toBe(before.lostAt)
          const lost = verdict.losses.map(({ operand }) => operand)
          expect(lost).toEqual(OPERANDS.filter((_, index) => verdict.passed[index] === '0'))
          expect(verdict.passed).not.toContain('.')
          expect(verdict.permitted).toBe(lost.length === 0)
        }
      }),
      { numRuns: 200 },
    )
  })

  it('what it says is left lies within what was asked for, and asked alone is granted', () => {
    let left = 0
    fc.assert(
      fc.property(anyQuestion, (question) => {
        const { allowed, narrower } = decide({ ...question, whole: true })
        if (!narrower) return
        left += 1
        expect(allowed).toBe(false)
        expect(grantsWithin(narrower, question.requested!)).toBe(true)
        expect(decide({ ...question, requested: narrower }).allowed).toBe(true)
      }),
      { numRuns: 300 },
    )
    expect(left).toBeGreaterThan(20)
  })

  it('is read back from its record as it was', () => {
    fc.assert(
      fc.property(anyQuestion, (question) => {
        const decision = decide({ ...question, requested: question.requested!.slice(0, 1), whole: true })
        const record = {
          details: JSON.parse(JSON.stringify(wholeRowsOf(decision))) as object,
        } as unknown as AuditRecord
        const { rows } = readIntersection(record, () => undefined)!
        expect(rows.map(({ operation, permitted }) => [operation, permitted])).toEqual(
          decision.verdicts.map(({ operation, permitted }) => [operation, permitted]),
        )
        for (const [at, { operands, constraints = {} }] of rows.entries()) {
          const { passed, constraints: had = {} } = decision.verdicts[at]!
          expect(constraints).toEqual(had)
          for (const [index, operand] of OPERANDS.entries())
            expect(operands[operand]).toBe({ '1': 'yes', '0': 'no', '-': 'absent' }[passed[index]!])
        }
      }),
      { numRuns: 50 },
    )
  })

  it('reads what records of before said', () => {
    const verdicts = [
      { tool: 'payments', operation: 'refund', effect: 'irreversible_write', permitted: false, lost_at: 'stage' },
      { tool: 'payments', operation: 'read_payment', permitted: true, policies: ['a'], reasons: ['because'] },
    ]
    const record = { details: { verdicts, absent: ['task', 'parent'] } } as unknown as AuditRecord
    const { rows } = readIntersection(record, () => undefined)!
    expect(OPERANDS.map((operand) => rows[0]!.operands[operand])).toEqual([
      'yes',
      'yes',
      'yes',
      'no',
      'absent',
      'absent',
      'not_asked',
    ])
    expect(rows[1]).toMatchObject({ permitted: true, policies: ['a'], reasons: ['because'] })
    expect(readIntersection({ details: {} } as unknown as AuditRecord, () => undefined)).toBeUndefined()
  })
})
