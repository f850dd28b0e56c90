/** What may happen, all of it at once. */
import fc from 'fast-check'

export const MATCHES = ['task', 'root', 'jti', 'child', 'agent', 'client_id', 'sub', 'aud', 'kid', 'agent+aud'] as const
export const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ op: fc.constant('open' as const), key: fc.constantFrom(undefined, 'retry-key') }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('inTask' as const) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('renew' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('handOver' as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({ op: fc.constant('accept' as const), key: fc.constantFrom(undefined, 'accept-key') }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('replay' as const) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant('revoke' as const),
      by: fc.constantFrom(...MATCHES),
      mode: fc.constantFrom('cut' as const, 'ban' as const, 'suspend' as const, 'contain' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('readmit' as const) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('resume' as const) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('end' as const), task: fc.constantFrom('root', 'child') }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('rotate' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('compromise' as const) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('reload' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('advance' as const), by: fc.constantFrom(1, 61, 301, 1000, 3600) }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('clockJump' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('sweep' as const) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('reserve' as const), task: fc.constantFrom('root', 'child') }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('introspect' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('crash' as const) }) },
)
export type Step = typeof step extends fc.Arbitrary<infer T> ? T : never
