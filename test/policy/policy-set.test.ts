import type { Effect } from '@errand/verifier/claims.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Cedar, type CedarRequest, type CedarSlice, createCedar } from '../../src/policy/cedar.ts'
import type { PolicyQuestion } from '../../src/policy/policy-set.ts'
import { MONDAY_TEN, PERMIT_ALL, payments, setOf, tickets, vocabulary } from './policies.ts'

const context = {
  stage: 'external',
  tier: 'key',
  attestation: 'private_key_jwt',
  environment: 'staging',
  data_classification: 'internal',
  autonomous: false,
  depth: 1,
  sender_constraint: 'dpop',
  subject: { id: 'company|alice', issuer: 'company', groups: ['support'], claims: {} },
}
const operations = [tickets, payments].flatMap(({ name, operations }) =>
  [...operations.values()].map(({ name: operation, effect }) => ({ tool: name, operation, effect })),
)
const question = (more: Partial<PolicyQuestion> & { effect?: Effect } = {}): PolicyQuestion => {
  const asked = { agent: 'research', tool: 'tickets', operation: 'read', effect: 'read', now: MONDAY_TEN, ...more }
  return { ...asked, context: { ...context, effect: asked.effect, ...more.context } }
}

/** Counts what reaches the engine. */
function counted(): { readonly cedar: Cedar; readonly asked: { slice: CedarSlice; request: CedarRequest }[] } {
  const cedar = createCedar()
  const asked: { slice: CedarSlice; request: CedarRequest }[] = []
  return {
    asked,
    cedar: {
      ...cedar,
      evaluate(slice, request) {
        asked.push({ slice, request })
        return cedar.evaluate(slice, request)
      },
    },
  }
}

const scopes = {
  principal: [
    'principal',
    'principal == Agent::"research"',
    'principal == Agent::"payments"',
    'principal in Agent::"research"',
    'principal is Agent',
    'principal is Agent in Agent::"payments"',
  ],
  action: [
    'action',
    'action == Action::"tickets:read"',
    'action in Action::"effect:read"',
    'action in [Action::"effect:irreversible_write", Action::"tickets:comment"]',
  ],
  resource: ['resource', 'resource == Tool::"tickets"', 'resource == Tool::"payments"', 'resource is Tool'],
  condition: [
    '',
    'when { context.depth > 1 }',
    'when { context.environment == "staging" }',
    'unless { context.hour_utc >= 12 }',
    'when { context.depth + 9223372036854775807 > 0 }',
  ],
}
const anyPolicy = fc.record({
  effect: fc.constantFrom('permit', 'permit', 'forbid'),
  principal: fc.constantFrom(...scopes.principal),
  action: fc.constantFrom(...scopes.action),
  resource: fc.constantFrom(...scopes.resource),
  condition: fc.constantFrom(...scopes.condition),
})
const applies = (action: string, resource: string): boolean =>
  !(resource.includes('payments') && action.includes('tickets:')) || action === 'action'
const anySet = fc
  .array(
    anyPolicy.filter(({ action, resource }) => applies(action, resource)),
    { minLength: 1, maxLength: 12 },
  )
  .map((policies) =>
    policies
      .map(
        ({ effect, principal, action, resource, condition }, index) =>
          `@id("p${index}") ${effect} (${principal}, ${action}, ${resource}) ${condition};`,
      )
      .join('\n'),
  )
const anyQuestion = fc
  .record({
    agent: fc.constantFrom('research', 'payments'),
    operation: fc.constantFrom(...operations),
    depth: fc.constantFrom(1, 2),
    now: fc.constantFrom(MONDAY_TEN, MONDAY_TEN + 3 * 3600),
  })
  .map(({ agent, operation, depth, now }) => question({ agent, ...operation, now, context: { depth } }))

describe('a policy set', () => {
  it('sliced by agent and tool answers as the whole set would', () => {
    const cedar = createCedar()
    fc.assert(
      fc.property(anySet, fc.array(anyQuestion, { minLength: 1, maxLength: 6 }), (text, questions) => {
        const set = setOf(text, cedar)
        const whole: CedarSlice = {
          digest: text,
          policies: Object.fromEntries([...set.policies].map(([id, policy]) => [id, policy.text])),
        }
        for (const asked of questions) {
          const date = new Date(asked.now * 1000)
          const expected = cedar.evaluate(whole, {
            principal: { type: 'Agent', id: asked.agent },
            action: { type: 'Action', id: `${asked.tool}:${asked.operation}`, groups: [`effect:${asked.effect}`] },
            resource: { type: 'Tool', id: asked.tool },
            context: {
              ...asked.context,
              hour_utc: date.getUTCHours(),
              weekday_utc: date.getUTCDay() || 7,
              now: { __extn: { fn: 'datetime', arg: date.toISOString() } },
            },
          })
          expect(set.evaluate(asked)).toEqual(expected)
          // The remembered answer is the same answer.
          expect(set.evaluate(asked)).toEqual(expected)
        }
      }),
      { numRuns: 150 },
    )
  })

  it('G4 a forbid that applies always wins, whatever permits, on every operation it covers', () => {
    const cedar = createCedar()
    fc.assert(
      fc.property(anySet, anyQuestion, (text, asked) => {
        const set = setOf(`${text}\n@id("never") forbid (principal, action, resource == Tool::"${asked.tool}");`, cedar)
        for (const operation of operations.filter(({ tool }) => tool === asked.tool)) {
          expect(
            set.evaluate({ ...asked, ...operation, context: { ...asked.context, effect: operation.effect } }).allowed,
          ).toBe(false)
        }
      }),
      { numRuns: 100 },
    )
  })

  it('an evaluation error is a denial that names the policy, also beside a permit', () => {
    const set = setOf(
      `${PERMIT_ALL} @id("broken") permit (principal, action, resource) when { context.depth * 9223372036854775807 > 3 };`,
    )
    expect(set.evaluate(question({ context: { depth: 2 } }))).toEqual({
      allowed: false,
      determining: ['all'],
      errors: ['broken'],
    })
  })

  it('asks the engine only about policies that can apply: a thousand for other agents cost nothing', () => {
    const { cedar, asked } = counted()
    const agents = ['research', ...Array.from({ length: 1000 }, (_, index) => `agent-${index}`)]
    const text = agents
      .map((name) => `@id("p-${name}") permit (principal == Agent::"${name}", action, resource);`)
      .join('\n')
    const set = setOf(text, cedar, { ...vocabulary, agents })
    expect(set.evaluate(question()).determining).toEqual(['p-research'])
    expect(Object.keys(asked[0]!.slice.policies)).toEqual(['p-research'])
  })

  it('remembers an answer by policies and facts, and asks again when either differs', () => {
    const { cedar, asked } = counted()
    const set = setOf(PERMIT_ALL, cedar)
    set.evaluate(question())
    set.evaluate(question())
    set.evaluate(question({ now: MONDAY_TEN + 86_400 }))
    expect(asked).toHaveLength(1)
    set.evaluate(question({ context: { depth: 2 } }))
    set.evaluate(question({ agent: 'payments' }))
    set.evaluate(question({ operation: 'comment', effect: 'reversible_write' }))
    expect(asked).toHaveLength(4)
  })

  it('lets time into the facts only where a policy of the slice reads it', () => {
    const { cedar, asked } = counted()
    const set = setOf(
      `@id("any") permit (principal, action, resource == Tool::"tickets");
       @id("hour") permit (principal, action, resource == Tool::"payments") when { context.hour_utc < 12 };`,
      cedar,
    )
    set.evaluate(question())
    set.evaluate(question({ tool: 'payments' }))
    set.evaluate(question({ tool: 'payments', now: MONDAY_TEN + 60 }))
    set.evaluate(question({ tool: 'payments', now: MONDAY_TEN + 3600 }))
    expect(asked.map(({ request }) => request.context['hour_utc'])).toEqual([undefined, 10, 11])
    expect(asked.every(({ request }) => !('now' in request.context))).toBe(true)
  })

  it('keeps answering when more sets are in use than the engine holds parsed', () => {
    const cedar = createCedar()
    const evaluate = (n: number) =>
      cedar.evaluate(
        { digest: `d${n}`, policies: { [`p${n}`]: 'permit (principal, action, resource);' } },
        {
          principal: { type: 'Agent', id: 'a' },
          action: { type: 'Action', id: 'x', groups: [] },
          resource: { type: 'Tool', id: 't' },
          context: {},
        },
      ).determining
    for (let n = 0; n < 700; n++) expect(evaluate(n)).toEqual([`p${n}`])
    for (const n of [0, 699, 150, 1]) expect(evaluate(n)).toEqual([`p${n}`])
  })
})
