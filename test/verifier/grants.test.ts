import type { Effect, Grant } from '@errand/verifier/claims.ts'
import {
  callViolation,
  fromAuthorizationDetails,
  grantsWithin,
  isGranted,
  meetGrants,
  normalGrants,
  readAuthorizationDetails,
  readRequestedDetails,
  readScope,
  scopeOf,
  toAuthorizationDetails,
} from '@errand/verifier/grants.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { anyGrant, anyGrants, anyValue } from './authority-arbitraries.ts'

const effectOf = (_: string, operation: string): Effect => (operation === 'write' ? 'reversible_write' : 'read')
const admits = (grants: readonly Grant[], { tool, operation }: Grant, value: unknown): boolean =>
  callViolation(grants, { tool, operation, arguments: value }) === undefined
const text = (grants: readonly Grant[]) => JSON.stringify(grants)

describe('sets of grants', () => {
  it('D1 meets admit exactly the calls that both sets admit', () => {
    fc.assert(
      fc.property(anyGrants, anyGrants, anyGrant, anyValue, (a, b, call, value) => {
        expect(admits(meetGrants(a, b), call, value)).toBe(admits(a, call, value) && admits(b, call, value))
      }),
      { numRuns: 3000 },
    )
  })

  it('D1 meets are commutative, associative and idempotent, and lie within both operands', () => {
    fc.assert(
      fc.property(anyGrants, anyGrants, anyGrants, (a, b, c) => {
        const met = meetGrants(a, b)
        expect(text(met)).toBe(text(meetGrants(b, a)))
        expect(text(meetGrants(met, c))).toBe(text(meetGrants(a, meetGrants(b, c))))
        expect(text(meetGrants(a, a))).toBe(text(normalGrants(a)))
        expect(grantsWithin(met, a)).toBe(true)
        expect(grantsWithin(met, b)).toBe(true)
        expect(meetGrants(a, [])).toEqual([])
      }),
      { numRuns: 1000 },
    )
  })

  it('D1 what is within another set admits nothing more', () => {
    fc.assert(
      fc.property(anyGrants, anyGrants, anyGrant, anyValue, (narrow, wide, call, value) => {
        if (grantsWithin(narrow, wide) && admits(narrow, call, value)) expect(admits(wide, call, value)).toBe(true)
      }),
      { numRuns: 2000 },
    )
  })

  it('the same authority is written the same way, and read back as it was', () => {
    fc.assert(
      fc.property(anyGrants, fc.infiniteStream(fc.nat()), (grants, order) => {
        const details = toAuthorizationDetails(grants, effectOf)
        const shuffled = [...grants]
          .map((grant) => ({ grant, key: order.next().value ?? 0 }))
          .sort((a, b) => a.key - b.key)
        expect(
          JSON.stringify(
            toAuthorizationDetails(
              shuffled.map(({ grant }) => grant),
              effectOf,
            ),
          ),
        ).toBe(JSON.stringify(details))
        expect(fromAuthorizationDetails(details)).toEqual(normalGrants(grants))
        if (details.length > 0)
          expect(readAuthorizationDetails(JSON.parse(JSON.stringify(details)))).toEqual({ ok: true, value: details })
      }),
      { numRuns: 500 },
    )
  })

  it('groups operations by tool, effect and constraints', () => {
    const few = { type: 'object', properties: { limit: { type: 'integer', maximum: 5 } } } as const
    const grants: Grant[] = [
      { tool: 'tickets', operation: 'write', constraints: few },
      { tool: 'tickets', operation: 'search' },
      { tool: 'tickets', operation: 'read' },
      { tool: 'crm', operation: 'read', constraints: {} },
    ]
    expect(toAuthorizationDetails(grants, effectOf)).toEqual([
      { type: 'tool', tool: 'crm', effect: 'read', operations: ['read'] },
      { type: 'tool', tool: 'tickets', effect: 'read', operations: ['read', 'search'] },
      { type: 'tool', tool: 'tickets', effect: 'reversible_write', operations: ['write'], constraints: few },
    ])
    expect(scopeOf(grants)).toBe('crm:read tickets:read tickets:search tickets:write')
    expect(isGranted({ tool: 'tickets', operation: 'write' }, grants)).toBe(false)
    expect(
      isGranted({ tool: 'tickets', operation: 'write', constraints: { ...few, required: ['limit'] } }, grants),
    ).toBe(true)
  })

  it('C7 tells an operation that is not granted from arguments that are not', () => {
    const grants: Grant[] = [
      { tool: 'tickets', operation: 'read', constraints: { properties: { id: { maximum: 5 } } } },
    ]
    const call = { tool: 'tickets', operation: 'read', arguments: { id: 6 } }
    expect(callViolation(grants, call)).toEqual({ path: '$.id' })
    expect(callViolation(grants, { ...call, operation: 'write' })).toEqual({})
    expect(callViolation(grants, { ...call, tool: 'crm' })).toEqual({})
    expect(callViolation(grants, { ...call, arguments: { id: 5 } })).toBeUndefined()
  })
})

describe('scope', () => {
  it('reads values of our form', () => {
    expect(readScope('tickets:read crm:contacts.search')).toEqual({
      ok: true,
      value: [
        { tool: 'tickets', operation: 'read' },
        { tool: 'crm', operation: 'contacts.search' },
      ],
    })
  })

  it.each([
    ['nothing', ''],
    ['NBSP', 'tickets:read\u00a0crm:read'],
    ['a tab', 'tickets:read\tcrm:read'],
    ['a line break', 'tickets:read\n'],
    ['two spaces', 'tickets:read  crm:read'],
    ['a leading space', ' tickets:read'],
    ['a trailing space', 'tickets:read '],
    ['another case', 'Tickets:read'],
    ['a letter that folds', 'tic\u212aets:read'],
    ['a duplicate', 'tickets:read crm:read tickets:read'],
    ['no operation', 'tickets'],
    ['an empty operation', 'tickets:'],
    ['a star', 'tickets:*'],
    ['two colons', 'tickets:read:all'],
    ['a quote', 'tickets:"read"'],
    ['a long tool', `${'t'.repeat(33)}:read`],
    ['a long operation', `tickets:${'r'.repeat(65)}`],
    ['201 items', Array.from({ length: 201 }, (_, index) => `t:o${index}`).join(' ')],
    ['1,001 items', Array.from({ length: 1001 }, (_, index) => `t:o${index}`).join(' ')],
    ['a megabyte', 'a:b '.repeat(250_000)],
    ['a list', ['tickets:read']],
    ['undefined', undefined],
  ])('D2 refuses %s, and never trims it into a valid scope', (_, scope) => {
    expect(readScope(scope)).toMatchObject({ ok: false, fault: 'bad_scope' })
  })

  it.each(['__proto__', 'constructor:read', '__proto__:read', 'tickets:__proto__'])(
    'A10 D2 %s is judged by the form alone',
    (scope) => {
      expect(readScope(scope).ok).toBe(scope === 'constructor:read')
    },
  )

  it('D2 takes 200 items', () => {
    expect(readScope(Array.from({ length: 200 }, (_, index) => `t:o${index}`).join(' ')).ok).toBe(true)
  })
})

describe('authorization_details', () => {
  const entry = { type: 'tool', tool: 'tickets', effect: 'read', operations: ['read'] }

  it.each([
    ['not a list', entry],
    ['an empty list', []],
    ['text', '[]'],
    ['a list of text', ['tool']],
    ['another type', [{ ...entry, type: 'payment' }]],
    ['no type', [{ ...entry, type: undefined }]],
    ['an unknown field', [{ ...entry, locations: ['https://tickets.example.com/'] }]],
    ['an unknown effect', [{ ...entry, effect: 'write' }]],
    ['a bad tool', [{ ...entry, tool: 'Tickets' }]],
    ['no operations', [{ ...entry, operations: [] }]],
    ['an operation twice', [{ ...entry, operations: ['read', 'read'] }]],
    ['an operation that is no name', [{ ...entry, operations: ['*'] }]],
    ['operations as text', [{ ...entry, operations: 'read' }]],
    ['an unknown keyword', [{ ...entry, constraints: { pattern: '.*' } }]],
    ['constraints null', [{ ...entry, constraints: null }]],
    ['33 objects', Array.from({ length: 33 }, (_, index) => ({ ...entry, operations: [`o${index}`] }))],
    ['201 operations', [{ ...entry, operations: Array.from({ length: 201 }, (_, index) => `o${index}`) }]],
    [
      '201 operations in two objects',
      [0, 1].map((half) => ({ ...entry, operations: Array.from({ length: 101 }, (_, index) => `o${half}-${index}`) })),
    ],
  ])('D1 refuses %s', (_, details) => {
    expect(readAuthorizationDetails(details)).toMatchObject({ ok: false, fault: 'bad_authorization_details' })
    expect(readRequestedDetails(details, effectOf)).toMatchObject({ ok: false, fault: 'bad_authorization_details' })
  })

  it('D1 a request may give one operation four alternatives, a token as many as were granted', () => {
    const details = Array.from({ length: 5 }, (_, index) => ({ ...entry, constraints: { enum: [index] } }))
    expect(readRequestedDetails(details.slice(0, 4), effectOf)).toMatchObject({ value: { length: 4 } })
    expect(readRequestedDetails(details, effectOf)).toMatchObject({ fault: 'bad_authorization_details' })
    expect(readAuthorizationDetails(details).ok).toBe(true)
  })

  it('D1 a request may leave the effect out but not give another than the operation has', () => {
    const { effect: _, ...without } = entry
    expect(readAuthorizationDetails([without])).toMatchObject({ fault: 'bad_authorization_details' })
    expect(readRequestedDetails([without], effectOf)).toEqual({
      ok: true,
      value: [{ tool: 'tickets', operation: 'read' }],
    })
    expect(readRequestedDetails([entry], effectOf).ok).toBe(true)
    expect(readRequestedDetails([{ ...entry, operations: ['read', 'write'] }], effectOf)).toMatchObject({
      fault: 'bad_authorization_details',
    })
    // Whether an operation exists is decided later, and in the same way for all.
    expect(readRequestedDetails([entry], () => undefined).ok).toBe(true)
  })
})
