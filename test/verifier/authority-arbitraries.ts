/** Constraints, values and grants from small alphabets, so that they meet often. */
import type { Constraint, Grant } from '@errand/verifier/claims.ts'
import fc from 'fast-check'

const small = fc.integer({ min: -3, max: 4 })
const length = fc.integer({ min: 0, max: 3 })
const name = fc.constantFrom('a', 'b', 'c', '1')
const primitive = fc.oneof(fc.constantFrom(null, true, false, '', 'x', 'xy', '😀', -0), small)

const pruned = (record: { [name: string]: unknown }): Constraint =>
  Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as Constraint

const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 1 })

export const anyConstraint: fc.Arbitrary<Constraint> = fc.letrec<{ constraint: Constraint }>((tie) => ({
  constraint: fc.oneof(
    { maxDepth: 3, depthSize: 'small' },
    fc.constant({}),
    fc.record({ enum: fc.array(primitive, { maxLength: 5 }) }),
    fc
      .record({
        type: maybe(fc.constantFrom('string', 'integer', 'boolean', 'null', 'number')),
        enum: maybe(fc.array(primitive, { maxLength: 5 })),
      })
      .map(pruned),
    fc
      .record({ type: maybe(fc.constantFrom('integer', 'number')), minimum: maybe(small), maximum: maybe(small) })
      .map(pruned),
    fc.record({ type: maybe(fc.constant('string')), minLength: maybe(length), maxLength: maybe(length) }).map(pruned),
    fc
      .record({
        type: maybe(fc.constant('array')),
        minItems: maybe(length),
        maxItems: maybe(length),
        items: maybe(tie('constraint')),
      })
      .map(pruned),
    fc
      .record({
        type: maybe(fc.constant('object')),
        properties: maybe(fc.dictionary(name, tie('constraint'), { maxKeys: 3, noNullPrototype: true })),
        required: maybe(fc.array(name, { maxLength: 2 })),
        additionalProperties: maybe(fc.constant(false)),
      })
      .map(pruned),
  ),
})).constraint

export const anyValue: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, depthSize: 'small' },
    primitive,
    fc.constantFrom(0.5, -1.5, 1e300, 'xyz'),
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(name, tie('value'), { maxKeys: 3, noNullPrototype: true }),
  ),
}))['value'] as fc.Arbitrary<unknown>

export const anyGrant: fc.Arbitrary<Grant> = fc
  .record({
    tool: fc.constantFrom('tickets', 'crm'),
    operation: fc.constantFrom('read', 'write'),
    constraints: maybe(anyConstraint),
  })
  .map((grant) => pruned(grant) as unknown as Grant)

export const anyGrants: fc.Arbitrary<readonly Grant[]> = fc.array(anyGrant, { maxLength: 4 })
