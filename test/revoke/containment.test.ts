import { describe, expect, it, test } from 'vitest'
import type { Tool } from '../../src/policy/tool.ts'
import { createAcks } from '../../src/revoke/acks.ts'
import { type Audience, boundOf, judgeContainment } from '../../src/revoke/containment.ts'

const REVOKED = 1_000
const feed = (more: Partial<Audience> = {}): Audience => ({
  tool: 'tickets',
  audience: 'https://tickets.example.com/',
  by: 'feed',
  boundSeconds: 30,
  ...more,
})
const applied = (at: number) => ({ epoch: '1.7', at, processes: 2 })
const judge = (audiences: readonly Audience[], now: number, listeningSince = 0) =>
  judgeContainment({ now, revokedAt: REVOKED, durableAt: REVOKED, audiences, listeningSince })

describe('containment', () => {
  it.each([
    // what is known of the verifier           now   heard since  state           until
    ['it has acknowledged', applied(1_001), 1_001, 0, 'acknowledged', 1_001],
    ['nothing yet', undefined, 1_001, 0, 'waiting', 1_030],
    ['nothing, to the last moment', undefined, 1_029, 0, 'waiting', 1_030],
    ['nothing, and its bound has passed', undefined, 1_030, 0, 'bound_passed', 1_030],
    ['it acknowledged late', applied(1_200), 1_300, 0, 'bound_passed', 1_030],
    ['it acknowledged, and the service has not heard all of them yet', applied(1_001), 1_001, 990, 'waiting', 1_020],
    ['it acknowledged, and whoever was not heard refuses by now', applied(1_001), 1_020, 990, 'acknowledged', 1_020],
    ['the service was started after the revocation', applied(1_005), 1_006, 1_004, 'waiting', 1_030],
  ] as const)('of a verifier that follows: %s', (_, said, now, since, state, until) => {
    const { verifiers, contained, contained_by, residual } = judgeContainment({
      now,
      revokedAt: REVOKED,
      durableAt: REVOKED,
      audiences: [feed({ applied: said })],
      listeningSince: since,
    })
    expect(verifiers).toMatchObject([{ state, until, bound_seconds: 30 }])
    expect([contained, contained_by]).toEqual([state !== 'waiting', until])
    expect(residual).toEqual(
      state === 'waiting' ? [{ audience: 'https://tickets.example.com/', until, by: 'feed' }] : [],
    )
  })

  test('it is contained when the last audience is, and by when is known from the first moment', () => {
    const late = feed({ audience: 'https://legacy.example.com/', by: 'token_life', boundSeconds: 90 })
    const all = [feed({ applied: applied(1_001) }), late]
    expect(judge(all, 1_002)).toMatchObject({ contained: false, contained_by: 1_090, pending_downstream: 0 })
    expect(judge(all, 1_002)).not.toHaveProperty('contained_at')
    expect(judge(all, 1_090)).toMatchObject({ contained: true, contained_at: 1_090, residual: [] })
    expect(judge([], 1_000)).toMatchObject({ contained: true, contained_at: 1_000 })
  })

  it.each([
    ['the largest bound of what its operations do', {}, 'feed', 5],
    ['its tokens where it has no key', { keys: [] }, 'token_life', 300 + 30],
    ['its tokens where it does not follow', { followsFeed: false }, 'token_life', 60 + 30],
    ['no longer than any token lives', { keys: [], maxTokenLifetimeSeconds: 400 }, 'token_life', 300 + 30],
    ['what another server is given', { takes: { kind: 'id_jag', lifetimeSeconds: 120 } }, 'token_life', 120 + 30],
    [
      'at once where it asks each time',
      { stalenessSeconds: { reversible_write: 0, external_communication: 0 } },
      'feed',
      0,
    ],
  ] as const)('an audience is bound by %s', (_, more, by, boundSeconds) => {
    const tool = {
      name: 'tickets',
      audience: 'https://tickets.example.com/',
      operations: new Map([
        ['add', { name: 'add', effect: 'reversible_write', routes: [], mcpTools: [] }],
        ['send', { name: 'send', effect: 'external_communication', routes: [], mcpTools: [] }],
      ]),
      followsFeed: true,
      statusList: false,
      keys: [{ kty: 'EC' }],
      maxTokenLifetimeSeconds: 300,
      stalenessSeconds: { read: 30, reversible_write: 5, external_communication: 2 },
      ...more,
    } as unknown as Tool
    expect(boundOf(tool, 300)).toMatchObject({ by, boundSeconds })
  })

  test('a verifier has applied it since the last of its processes said so, however often they say it again', () => {
    const acks = createAcks()
    const epoch = (sequence: number) => ({ generation: 1, sequence })
    acks.note('tool:tickets', { epoch: epoch(7), instance: 'one' }, 100)
    acks.note('tool:tickets', { epoch: epoch(6), instance: 'two' }, 101)
    expect(acks.applied('tool:tickets', epoch(7))).toBeUndefined()
    expect(acks.applied('tool:crm', epoch(7))).toBeUndefined()
    acks.note('tool:tickets', { epoch: epoch(8), instance: 'two' }, 103)
    acks.note('tool:tickets', { epoch: epoch(8), instance: 'two' }, 160)
    acks.note('tool:tickets', { epoch: epoch(7), instance: 'one' }, 161)
    expect(acks.applied('tool:tickets', epoch(7))).toEqual({ epoch: '1.7', at: 103, processes: 2 })
  })
})
