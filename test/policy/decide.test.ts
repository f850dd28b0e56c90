import { EFFECTS, type Grant } from '@errand/verifier/claims.ts'
import { grantsWithin, meetGrants } from '@errand/verifier/grants.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { STAGES } from '../../src/attest/registration.ts'
import type { Decide, DecisionQuestion, OperationVerdict } from '../../src/policy/decision.ts'
import { stageAllows, stageFor, stageGetsTokens } from '../../src/policy/stage.ts'
import { agent, decideBy, everything, facts, MONDAY_TEN, PERMIT_ALL, payments, tickets } from './policies.ts'

const ask = (more: Partial<DecisionQuestion> = {}): DecisionQuestion => ({
  facts: facts(),
  tools: [tickets],
  operands: { ceiling: everything },
  ...more,
})
const grant = (tool: string, operation: string, max?: number): Grant => ({
  tool,
  operation,
  ...(max === undefined
    ? {}
    : { constraints: { type: 'object', properties: { amount_cents: { type: 'integer', maximum: max } } } as const }),
})
const only = (decide: Decide, question: DecisionQuestion): OperationVerdict => {
  const { verdicts } = decide(question)
  expect(verdicts).toHaveLength(1)
  return verdicts[0]!
}

describe('a decision', () => {
  it('grants the largest permitted set where nothing in particular is asked', () => {
    const decision = decideBy(PERMIT_ALL)(ask({ facts: facts({ agent: agent('reversible_write') }) }))
    expect(decision.permitted).toEqual([grant('tickets', 'comment'), grant('tickets', 'read')])
    expect(decision.allowed).toBe(true)
    expect(decision.verdicts).toHaveLength(tickets.operations.size)
    expect(decision.policies).toEqual(['all'])
    expect(decision.policyDigest).toMatch(/^[A-Za-z0-9_-]{12}$/)
  })

  it('names the reasons of the policies that decided', () => {
    const decide = decideBy(
      '@id("a") @reason("because of a") permit (principal, action, resource); @id("b") permit (principal, action, resource);',
    )
    expect(only(decide, ask({ requested: [grant('tickets', 'read')] }))).toEqual({
      tool: 'tickets',
      operation: 'read',
      effect: 'read',
      permitted: true,
      policies: ['a', 'b'],
      reasons: ['because of a'],
      passed: '1-11--1',
      losses: [],
    })
  })

  it('D1 refuses the whole where a part of what was asked is refused, and names the part', () => {
    const decision = decideBy(PERMIT_ALL)(
      ask({ requested: [grant('tickets', 'read'), grant('tickets', 'impersonate')] }),
    )
    expect(decision.allowed).toBe(false)
    expect(decision.verdicts.filter(({ permitted }) => !permitted).map(({ operation }) => operation)).toEqual([
      'impersonate',
    ])
  })

  it('with nothing asked and nothing permitted is no permission', () => {
    expect(decideBy('')(ask())).toMatchObject({ allowed: false, permitted: [], policies: [] })
    expect(decideBy(PERMIT_ALL)(ask({ requested: [] }))).toMatchObject({ allowed: false, permitted: [] })
  })

  it('takes the shortest life that a determining permit sets, of what it permits', () => {
    const decide = decideBy(`
      @id("long") @ttl_seconds("200") permit (principal, action, resource);
      @id("short") @ttl_seconds("30") permit (principal, action in Action::"effect:reversible_write", resource);
      @id("unused") @ttl_seconds("5") permit (principal, action, resource) when { context.environment == "production" };
    `)
    expect(decide(ask({ requested: [grant('tickets', 'read')] })).obligations).toEqual({ maxLifetimeSeconds: 200 })
    expect(decide(ask({ requested: [grant('tickets', 'read'), grant('tickets', 'comment')] })).obligations).toEqual({
      maxLifetimeSeconds: 30,
    })
  })

  it('requires the sender constraint of a determining permit', () => {
    const decide = decideBy('@id("bound") @sender_constraint("mtls") permit (principal, action, resource);')
    const asked = { requested: [grant('tickets', 'read')] }
    expect(decide(ask({ ...asked, facts: facts({ senderConstraint: 'mtls' }) }))).toMatchObject({
      allowed: true,
      obligations: { senderConstraint: 'mtls' },
    })
    for (const senderConstraint of ['dpop', 'bearer'] as const) {
      expect(only(decide, ask({ ...asked, facts: facts({ senderConstraint }) }))).toMatchObject({
        permitted: false,
        lostAt: 'policy',
        policies: ['bound'],
        leastChange: 'ask with a client certificate (mTLS): `bound` requires it',
      })
    }
  })

  it('grants what an agent says nothing of as narrow as it is allowed, and what it states whole', () => {
    const decide = decideBy(PERMIT_ALL)
    const question = (requested: Grant) =>
      ask({ tools: [payments], requested: [requested], operands: { ceiling: [grant('payments', 'refund', 5000)] } })
    const bounded = (max: number) => [
      {
        tool: 'payments',
        operation: 'refund',
        constraints: { type: 'object', properties: { amount_cents: { type: 'integer', minimum: 1, maximum: max } } },
      },
    ]
    expect(decide(question(grant('payments', 'refund'))).permitted).toEqual(bounded(5000))
    expect(decide(question(grant('payments', 'refund', 100))).permitted).toEqual(bounded(100))
    expect(decide(question(grant('payments', 'refund', 5000))).permitted).toEqual(bounded(5000))
    expect(only(decide, question(grant('payments', 'refund', 5001)))).toMatchObject({
      permitted: false,
      lostAt: 'ceiling',
    })
  })
})

describe('a refusal names the operand at which the operation was lost, and the least change', () => {
  const refund = [grant('payments', 'refund')]
  const table: readonly [
    name: string,
    question: DecisionQuestion,
    policies: string,
    lostAt: string,
    leastChange: RegExp,
    determining?: string[],
  ][] = [
    [
      'an operation that the tool has not',
      ask({ requested: [grant('tickets', 'reed')] }),
      PERMIT_ALL,
      'tool',
      /`tickets:reed` is not an operation of config\/tools\/tickets.yaml: did you mean "read"/,
    ],
    ['an operation of another tool', ask({ requested: refund }), PERMIT_ALL, 'tool', /`payments` is not the tool/],
    [
      'arguments that the schema does not admit',
      ask({ tools: [payments], requested: [grant('payments', 'refund', 900_000)] }),
      PERMIT_ALL,
      'tool',
      /schema in config\/tools\/payments.yaml/,
    ],
    [
      'a right that the user has not',
      ask({ tools: [payments], requested: refund, operands: { subject: [], ceiling: everything } }),
      PERMIT_ALL,
      'subject',
      /^give `payments:refund` to one of the user's groups in the rights of issuer `company` in config\/issuers\/$/,
    ],
    [
      'more than the user may',
      ask({
        tools: [payments],
        requested: [grant('payments', 'refund', 10)],
        operands: { subject: [grant('payments', 'refund', 9)], ceiling: everything },
      }),
      PERMIT_ALL,
      'subject',
      /ask for fewer arguments .*rights of the user's groups/,
    ],
    [
      'an operation above the ceiling',
      ask({ tools: [payments], requested: refund, operands: { ceiling: [] } }),
      PERMIT_ALL,
      'ceiling',
      /^add `payments:refund` to the ceiling in config\/agents\/research.yaml$/,
    ],
    [
      'an effect above the stage',
      ask({ tools: [payments], requested: refund, facts: facts({ agent: agent('read') }) }),
      PERMIT_ALL,
      'stage',
      /^raise `stage` from `read` to `irreversible_write` in config\/agents\/research.yaml/,
    ],
    [
      'a privileged effect, at the highest stage',
      ask({ requested: [grant('tickets', 'impersonate')] }),
      PERMIT_ALL,
      'stage',
      /no stage permits: it needs an approval/,
    ],
    [
      'what the task does not include',
      ask({ tools: [payments], requested: refund, operands: { ceiling: everything, task: [] } }),
      PERMIT_ALL,
      'task',
      /open a task whose authority includes `payments:refund`/,
    ],
    [
      'what the parent does not hold',
      ask({ tools: [payments], requested: refund, operands: { ceiling: everything, parent: [] } }),
      PERMIT_ALL,
      'parent',
      /have the hand-over or grant include `payments:refund`/,
    ],
    [
      'what no policy permits',
      ask({ requested: [grant('tickets', 'read')] }),
      '',
      'policy',
      /add a permit policy for principal Agent::"research", action Action::"tickets:read", resource Tool::"tickets"/,
      [],
    ],
    [
      'what a policy forbids',
      ask({ requested: [grant('tickets', 'read')] }),
      `${PERMIT_ALL} @id("no") @reason("not now") forbid (principal, action, resource);`,
      'policy',
      /^forbid `no` decided/,
      ['no'],
    ],
    [
      'what a policy cannot judge',
      ask({ requested: [grant('tickets', 'read')] }),
      `${PERMIT_ALL} @id("sum") forbid (principal, action, resource) when { context.depth + 9223372036854775807 > 3 };`,
      'policy',
      /^mend `sum`: it could not be evaluated/,
      ['sum'],
    ],
  ]
  it.each(table)('%s', (_, question, policies, lostAt, leastChange, determining = []) => {
    const decision = decideBy(policies)(question)
    expect(decision).toMatchObject({ allowed: false, permitted: [], obligations: {} })
    expect(decision.verdicts).toHaveLength(1)
    expect(decision.verdicts[0]).toMatchObject({ permitted: false, lostAt, policies: determining })
    expect(decision.verdicts[0]!.leastChange).toMatch(leastChange)
  })

  it('the first operand counts where several would refuse', () => {
    const none = { subject: [], ceiling: [], task: [], parent: [] }
    const decide = decideBy('')
    const lostAt = (operands: DecisionQuestion['operands']) =>
      only(decide, ask({ requested: [grant('tickets', 'purge')], facts: facts({ agent: agent('read') }), operands }))
        .lostAt
    expect(lostAt(none)).toBe('subject')
    expect(lostAt({ ...none, subject: everything })).toBe('ceiling')
    expect(lostAt({ ...none, subject: everything, ceiling: everything })).toBe('stage')
  })
})

describe('stages', () => {
  it('allow the effects below them and no other', () => {
    const allowed = Object.fromEntries(
      STAGES.map((stage) => [stage, EFFECTS.filter((effect) => stageAllows(stage, effect))]),
    )
    expect(allowed).toEqual({
      suggest: [],
      draft: [],
      read: ['read'],
      reversible_write: ['read', 'reversible_write'],
      irreversible_write: ['read', 'reversible_write', 'irreversible_write'],
      external: ['read', 'reversible_write', 'irreversible_write', 'external_communication'],
    })
    expect(STAGES.filter(stageGetsTokens)).toEqual(['read', 'reversible_write', 'irreversible_write', 'external'])
    expect(stageFor('external_communication')).toBe('external')
    expect(stageFor('privileged')).toBeUndefined()
  })
})

describe('what policies read', () => {
  it('G9 hours and weekdays are those of UTC, over a change of clocks too', () => {
    const decide = decideBy(
      '@id("hours") permit (principal, action, resource) when { context.weekday_utc <= 5 && context.hour_utc >= 7 && context.hour_utc < 18 };',
    )
    const at = (iso: string) =>
      decide(ask({ requested: [grant('tickets', 'read')], facts: facts({ now: Date.parse(iso) / 1000 }) })).allowed
    // Summer time ends in Berlin on Sunday 2026-10-25 at 01:00 UTC.
    expect(at('2026-10-23T06:59:59Z')).toBe(false)
    expect(at('2026-10-23T07:00:00Z')).toBe(true)
    expect(at('2026-10-26T06:59:59Z')).toBe(false)
    expect(at('2026-10-26T07:00:00Z')).toBe(true)
    expect(at('2026-10-26T18:00:00Z')).toBe(false)
    expect(at('2026-10-25T10:00:00Z')).toBe(false)
    // The last second of a day on which a leap second was inserted.
    expect(at('2016-12-30T17:59:59Z')).toBe(true)
    expect(at('2016-12-31T23:59:59Z')).toBe(false)
  })

  it('is judged anew when time passes, where a policy reads the time', () => {
    const decide = decideBy(
      '@id("until") permit (principal, action, resource) when { context.now < datetime("2026-11-23T10:00:01Z") };',
    )
    const at = (now: number) => decide(ask({ requested: [grant('tickets', 'read')], facts: facts({ now }) })).allowed
    expect([at(MONDAY_TEN), at(MONDAY_TEN + 1), at(MONDAY_TEN)]).toEqual([true, false, true])
  })

  it('has claims of every type, and leaves out what Cedar cannot hold', () => {
    const decide = decideBy(`@id("claims") permit (principal, action, resource) when {
      context.subject.claims has department && context.subject.claims.department == "care" &&
      context.subject.claims has level && context.subject.claims.level >= 3 &&
      context.subject.claims has on_call && context.subject.claims.on_call &&
      context.subject.claims has teams && context.subject.claims.teams.contains("a")
    };`)
    const claims = { department: 'care', level: 3, on_call: true, teams: ['a', 'b'] }
    const allowed = (changed: object) =>
      decide(
        ask({
          requested: [grant('tickets', 'read')],
          facts: facts({ subject: { ...facts().subject, claims: { ...claims, ...changed } } }),
        }),
      ).allowed
    expect(allowed({})).toBe(true)
    expect(allowed({ level: 2 })).toBe(false)
    expect(allowed({ level: 3.5 })).toBe(false)
    // A claim of another type than configured is an error, and an error is a denial.
    expect(allowed({ level: 'high' })).toBe(false)
  })
})

describe('authority is an intersection', () => {
  const names = everything.map(({ tool, operation }) => grant(tool, operation))
  const anyGrant: fc.Arbitrary<Grant> = fc
    .tuple(fc.constantFrom(...names), fc.option(fc.integer({ min: 1, max: 600_000 }), { nil: undefined }))
    .map(([{ tool, operation }, max]) => grant(tool, operation, max))
  const anyGrants = fc.array(anyGrant, { maxLength: 12 })
  const operands = fc.record(
    { subject: anyGrants, ceiling: anyGrants, task: anyGrants, parent: anyGrants },
    { requiredKeys: ['ceiling'] },
  )
  const schemas = [tickets, payments].flatMap(({ name, operations }) =>
    [...operations.values()].map(
      (operation): Grant => ({
        tool: name,
        operation: operation.name,
        ...(operation.arguments ? { constraints: operation.arguments } : {}),
      }),
    ),
  )
  const all = decideBy(PERMIT_ALL)
  const some = decideBy(
    '@id("reads") permit (principal, action in Action::"effect:read", resource); @id("refund") permit (principal == Agent::"research", action == Action::"payments:refund", resource);',
  )

  it('what is permitted lies within every operand, whatever is asked', () => {
    fc.assert(
      fc.property(
        operands,
        fc.option(anyGrants, { nil: undefined }),
        fc.constantFrom(...STAGES),
        fc.boolean(),
        (given, requested, stage, strict) => {
          const { permitted, verdicts, allowed } = (strict ? some : all)({
            facts: facts({ agent: agent(stage, given.ceiling) }),
            tools: [tickets, payments],
            ...(requested ? { requested } : {}),
            operands: given,
          })
          for (const operand of Object.values(given)) expect(grantsWithin(permitted, operand)).toBe(true)
          expect(grantsWithin(permitted, schemas)).toBe(true)
          if (requested) expect(grantsWithin(permitted, requested)).toBe(true)
          for (const { tool, operation } of permitted) {
            const { effect } = verdicts.find((verdict) => verdict.tool === tool && verdict.operation === operation)!
            expect(stageAllows(stage, effect as 'read')).toBe(true)
          }
          if (allowed && requested) expect(verdicts.every((verdict) => verdict.permitted)).toBe(true)
        },
      ),
      { numRuns: 400 },
    )
  })

  it('and is exactly the intersection where Cedar permits all and nothing is asked', () => {
    fc.assert(
      fc.property(operands, (given) => {
        const { permitted } = all({
          facts: facts({ agent: agent('external', given.ceiling) }),
          tools: [tickets, payments],
          operands: given,
        })
        const staged = schemas.filter(({ operation }) => operation !== 'impersonate')
        const expected = Object.values(given).reduce<readonly Grant[]>(
          (kept, operand) => meetGrants(kept, operand),
          staged,
        )
        expect(grantsWithin(permitted, expected) && grantsWithin(expected, permitted)).toBe(true)
      }),
      { numRuns: 400 },
    )
  })
})
