/** Indexes of status lists against the log that decides: no bit may say of a token what the log does not say. */
import { compareEpochs, type Epoch } from '@errand/verifier/epoch.ts'
import type { CheckedHop, HopFacts } from '@errand/verifier/shapes.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { NewRevocation, Revocation } from '../../src/revoke/revocation-log.ts'
import { LIST_SIZE, openStatusIndexes } from '../../src/revoke/status-indexes.ts'
import type { StatusRecord, StatusRegistry } from '../../src/revoke/status-registry.ts'
import { createRevocationIndex } from '../../src/store/embedded/revocation-index.ts'

const NOW = 1_700_000_000
const URI = 'https://errand.example.com/status-lists/'

/** One log and one registry for all replicas, and their clock. */
function openWorld(generation = 1) {
  const clock = { now: NOW }
  const index = createRevocationIndex({ generation, sequence: 0 })
  const entries: Revocation[] = []
  const moves = new Set<() => void>()
  const place = { generation, sequence: 0 }
  const next = (): Epoch => {
    place.sequence += 1
    return { ...place }
  }
  const log = {
    epoch: async () => index.epoch(),
    after: async (epoch?: Epoch) => entries.filter((one) => !epoch || compareEpochs(one.epoch, epoch) > 0),
    onAdded: (_: unknown, moved?: () => void) => {
      if (moved) moves.add(moved)
      return () => void (moved && moves.delete(moved))
    },
  }
  const revoke = (match: HopFacts, more: Partial<NewRevocation> = {}) => {
    const epoch = next()
    const entry: Revocation = {
      id: `rev_${epoch.sequence}`,
      match,
      mode: 'cut',
      reason: 'test',
      by: 'admin',
      at: clock.now,
      expiresAt: clock.now + 420,
      ...more,
      epoch,
    }
    entries.push(entry)
    index.add(entry)
  }
  const mark = (): Epoch => {
    const epoch = next()
    index.moveTo(epoch)
    for (const moved of moves) moved()
    return epoch
  }

  const rows = new Map<string, { record: StatusRecord; place: number }>()
  const entered = new Map<string, Pick<StatusRecord, 'list' | 'idx' | 'until'>>()
  let places = 0
  const change = async (list: string, idx: number, by: (record: StatusRecord) => Partial<StatusRecord>) => {
    const row = rows.get(`${list}:${idx}`)
    if (row) rows.set(`${list}:${idx}`, { record: { ...row.record, ...by(row.record) }, place: ++places })
    return row !== undefined
  }
  const registry: StatusRegistry = {
    take: async (record) => {
      const key = `${record.list}:${record.idx}`
      if (rows.has(key)) return false
      rows.set(key, { record, place: ++places })
      return true
    },
    keep: async ({ list, idx, group }, until) =>
      rows.get(`${list}:${idx}`)?.record.group === group &&
      change(list, idx, (record) => ({ until: Math.max(until, record.until) })),
    enter: async (jti, list, idx, until) => void entered.set(jti, { list, idx, until }),
    name: async (jti) => {
      const at = entered.get(jti)
      if (at) await change(at.list, at.idx, ({ named }) => ({ named: [...new Set([...named, jti])] }))
      return at
    },
    since: async (from) => {
      const found = [...rows.values()].filter((row) => row.place > from).sort((a, b) => a.place - b.place)
      return { records: found.map(({ record }) => record), place: found.at(-1)?.place ?? from }
    },
    prune: async (before) => {
      for (const [key, { record }] of rows) if (record.until < before) rows.delete(key)
      for (const [jti, { until }] of entered) if (until < before) entered.delete(jti)
    },
  }

  const replica = async (
    more: { readonly random?: (most: number) => number; readonly forgetBefore?: () => number } = {},
  ) =>
    openStatusIndexes({
      now: () => clock.now,
      forgetBefore: more.forgetBefore ?? (() => clock.now),
      registry,
      log,
      verdicts: createRevocationIndex({ generation: 0, sequence: 0 }),
      decoys: { is: () => false },
      random: more.random ?? ((most) => Math.floor(Math.random() * most)),
      uriOf: (list) => URI + list,
      inUse: () => true,
    })
  type Replica = Awaited<ReturnType<typeof replica>>

  let tokens = 0
  /** As an exchange does: one question about the token and the index held, and another index where that is dead. */
  const issue = async (of: Replica, facts: HopFacts, above: readonly CheckedHop[] = [], life = 300) => {
    const group = JSON.stringify([facts, above])
    const held = of.held(group)
    const answer = index.check({ hops: [...above, ...(held?.hops ?? [])] }, clock.now)
    const usable = held && (answer.dead === undefined || answer.dead.hop < above.length)
    const rev = answer.epoch
    const kept = usable && (await of.keep(held, clock.now + life))
    const got = kept ? held : await of.take(group, [{ rev, facts }, ...above], clock.now + life)
    tokens += 1
    const jti = `jti-${tokens}`
    await of.enter(jti, got.status, clock.now + life)
    return { status: got.status, exp: clock.now + life, jti, hops: [{ rev, facts: { ...facts, jti } }, ...above] }
  }
  type Token = Awaited<ReturnType<typeof issue>>
  const isDead = ({ hops }: Token) => index.check({ hops }, clock.now).dead !== undefined
  const bit = async (of: Replica, { status: { status_list: reference } }: Token) => {
    await of.refresh()
    const list = of.list(reference.uri.slice(URI.length))
    return list ? list.marked.includes(reference.idx) : 'no list'
  }
  return { clock, log, revoke, mark, registry, rows, replica, issue, isDead, bit }
}

const facts = (over: HopFacts = {}): HopFacts => ({
  root: 'task-1',
  task: 'task-1',
  sub: 'dev|alice',
  agent: 'spiffe://company.example/agents/research',
  domain: 'company.example',
  client_id: 'research',
  aud: 'https://tickets.example.com/',
  kid: 'kid-1',
  policy: 'pol-1',
  ...over,
})

describe('indexes of status lists', () => {
  it('Inv1 Inv2 say of every living token what the log says, at every replica, whatever is revoked in between', async () => {
    const tasks = fc.constantFrom('task-1', 'task-2')
    const auds = fc.constantFrom('https://tickets.example.com/', 'https://crm.example.com/')
    const kids = fc.constantFrom('kid-1', 'kid-2')
    const match: fc.Arbitrary<HopFacts> = fc.oneof(
      fc.record({ task: tasks }),
      fc.record({ root: tasks }),
      fc.record({ aud: auds }),
      fc.record({ kid: kids }),
      fc.record({ task: tasks, aud: auds }),
      fc.record({ sub: fc.constant('dev|alice') }),
      fc.record({ jti: fc.constant('parent-1') }),
      fc.constant({}),
    )
    const at = fc.nat({ max: 1 })
    const step = fc.oneof(
      { weight: 5, arbitrary: fc.tuple(fc.constant('issue' as const), at, tasks, auds, kids, fc.boolean()) },
      { weight: 3, arbitrary: fc.tuple(fc.constant('revoke' as const), match, fc.boolean(), fc.boolean()) },
      fc.tuple(fc.constant('mark' as const)),
      fc.tuple(fc.constant('wait' as const), fc.constantFrom(1, 20, 200, 400)),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const world = openWorld()
        const replicas = [await world.replica(), await world.replica()]
        const tokens: Awaited<ReturnType<typeof world.issue>>[] = []
        let lastMark: Epoch | undefined
        for (const each of steps) {
          if (each[0] === 'issue') {
            const [, n, task, aud, kid, hasParent] = each
            const parent = facts({ jti: 'parent-1', task: 'task-0', root: task })
            const above = hasParent ? [{ rev: { generation: 1, sequence: 0 }, facts: parent }] : []
            const { dead } = createCheck(world, above)
            // A token whose ancestor is dead is not issued.
            if (!dead) tokens.push(await world.issue(replicas[n]!, facts({ task, root: task, aud, kid }), above))
          } else if (each[0] === 'revoke') {
            const [, of, absolute, before] = each
            if (absolute) world.revoke({ kid: 'kid-2' }, { absolute: true })
            else world.revoke(of, before && lastMark ? { before: lastMark } : {})
          } else if (each[0] === 'mark') {
            lastMark = world.mark()
            // Heard of by everybody, as messages are.
            await Promise.resolve()
          } else {
            world.clock.now += each[1]
            for (const one of replicas) await one.sweep()
          }
          for (const token of tokens.filter(({ exp }) => exp > world.clock.now))
            for (const one of replicas) expect(await world.bit(one, token)).toBe(world.isDead(token))
        }
        const again = await world.replica()
        for (const token of tokens.filter(({ exp }) => exp > world.clock.now))
          expect(await world.bit(again, token)).toBe(world.isDead(token))
      }),
      { numRuns: 120 },
    )
  })

  it('Inv1 are marked at every replica where one token is revoked by its id, also when its issuer is gone', async () => {
    const world = openWorld()
    const [issuer, other] = [await world.replica(), await world.replica()]
    const token = await world.issue(issuer, facts())
    const stranger = await world.issue(issuer, facts({ task: 'task-2', root: 'task-2' }))
    issuer.close()
    world.revoke({ jti: token.jti })
    world.revoke({ jti: 'nobody' })
    expect([await world.bit(other, token), await world.bit(other, stranger)]).toEqual([true, false])
    const later = await world.replica()
    expect([await world.bit(later, token), await world.bit(later, stranger)]).toEqual([true, false])
  })

  /** One replica forgets nothing yet, and the other gives an index of before to another task. */
  const takenAgain = async (revokedFirst: boolean) => {
    const world = openWorld()
    const seventh = { random: (most: number) => Math.min(7, most - 1) }
    const [one, fresh] = [await world.replica(seventh), await world.replica({ forgetBefore: () => 0 })]
    const first = await world.issue(one, facts())
    if (revokedFirst) world.revoke({ task: 'task-1' })
    expect(await world.bit(fresh, first)).toBe(revokedFirst)
    world.clock.now += 300 + 300 + 151
    // A lap ends where it finds nothing more.
    for (let lap = 0; lap < 2; lap++) for (const each of [one, fresh]) await each.sweep()
    const second = () => world.issue(one, facts({ task: 'task-2', root: 'task-2' }))
    return { world, one, fresh, first, second }
  }

  it('Inv1 are those of their last task at a replica that still had them of another', async () => {
    const { world, one, fresh, first, second } = await takenAgain(false)
    const token = await second()
    expect(token.status).toEqual(first.status)
    expect(await world.bit(fresh, token)).toBe(false)
    world.revoke({ task: 'task-1' })
    expect([await world.bit(one, token), await world.bit(fresh, token)]).toEqual([false, false])
    world.revoke({ task: 'task-2' })
    expect([await world.bit(one, token), await world.bit(fresh, token)]).toEqual([true, true])
  })

  it('Inv2 do not keep the mark of those that had them before', async () => {
    const { world, fresh, first, second } = await takenAgain(true)
    const token = await second()
    expect(token.status).toEqual(first.status)
    expect(await world.bit(fresh, token)).toBe(false)
  })

  it('are not given to tokens of a task that had them once, where another has them or nobody', async () => {
    for (const isTaken of [true, false]) {
      const { world, fresh, first, second } = await takenAgain(false)
      if (isTaken) await second()
      const next = await world.issue(fresh, facts())
      expect(next.status).not.toEqual(first.status)
      expect((await world.issue(fresh, facts())).status).toEqual(next.status)
      world.revoke({ task: 'task-1' })
      expect(await world.bit(fresh, next)).toBe(true)
    }
  })

  it('are not kept for the tokens that they were held for, when they go to others in between', async () => {
    const world = openWorld()
    const one = await world.replica()
    const token = await world.issue(one, facts())
    const [key, { record: before }] = [...world.rows][0]!
    const held = one.held(before.group)!
    const hops = [{ rev: { generation: 1, sequence: 9 }, facts: facts({ task: 'task-2', root: 'task-2' }) }]
    world.rows.set(key, { record: { ...before, group: 'others', hops }, place: 1_000 })
    await one.refresh()
    expect(await one.keep(held, world.clock.now + 60)).toBe(false)
    expect([one.held(before.group), one.held('others')?.status]).toEqual([undefined, token.status])
  })

  it('are shared by tokens of one kind up to a cut or a mark, and drawn anew after it', async () => {
    const world = openWorld()
    const one = await world.replica()
    const idx = async () => (await world.issue(one, facts())).status.status_list.idx
    const first = await idx()
    expect(await idx()).toBe(first)
    world.revoke({ task: 'task-1' })
    const second = await idx()
    expect(second).not.toBe(first)
    world.mark()
    await Promise.resolve()
    expect([first, second]).not.toContain(await idx())
  })

  it('need one write for a kind of tokens, and one more every five minutes', async () => {
    const world = openWorld()
    const one = await world.replica()
    const token = await world.issue(one, facts(), [], 60)
    const { place } = await world.registry.since(0)
    world.clock.now += 299
    expect((await world.issue(one, facts(), [], 60)).status).toEqual(token.status)
    expect((await world.registry.since(0)).place).toBe(place)
    world.clock.now += 2
    expect((await world.issue(one, facts(), [], 60)).status).toEqual(token.status)
    expect((await world.registry.since(0)).place).toBe(place + 1)
  })

  it('are free again only when their last token has ended and no copy of a list shows their mark', async () => {
    const world = openWorld()
    // Always the same one, while it is free.
    const one = await world.replica({ random: (most) => Math.min(7, most - 1) })
    const token = await world.issue(one, facts(), [], 60)
    world.revoke({ task: 'task-1' })
    await expect(world.issue(one, facts({ task: 'task-2' }))).rejects.toMatchObject({ reason: 'overloaded' })
    const { until } = [...world.rows.values()][0]!.record
    expect(until).toBe(NOW + 60 + 300)
    const sweep = async (now: number) => {
      world.clock.now = now
      await one.sweep()
      // A lap ends where it finds nothing more.
      await one.sweep()
    }
    await sweep(until + 59)
    expect(await world.bit(one, token)).toBe(true)
    await sweep(until + 60)
    expect(await world.bit(one, token)).toBe(false)
    await sweep(until + 150)
    await expect(world.issue(one, facts({ task: 'task-2' }))).rejects.toMatchObject({ reason: 'overloaded' })
    await sweep(until + 151)
    const next = await world.issue(one, facts({ task: 'task-2' }))
    expect([next.status, await world.bit(one, next)]).toEqual([token.status, false])
  })

  it('begin another list when one is half full, and no more than sixteen', async () => {
    const world = openWorld()
    const one = await world.replica()
    const until = NOW + 600
    for (let list = 1; list <= 16; list++)
      for (let idx = 0; idx < LIST_SIZE / 2; idx++) {
        const record = { list: `1-${list}`, idx, group: `${list} ${idx}`, hops: HOPS, named: [], until }
        if (list === 1 || idx === 0)
          world.rows.set(`${record.list}:${idx}`, { record, place: 1 + list * LIST_SIZE + idx })
        if (list > 1) break
      }
    await one.refresh()
    expect(one.lists()).toHaveLength(16)
    for (let n = 0; n < 40; n++) {
      const { status } = await world.issue(one, facts({ task: `task-${n}` }))
      expect(status.status_list.uri).not.toBe(`${URI}1-1`)
    }
  })

  it('of a store that lost what it held are others: those of before are in no list any more', async () => {
    const before = openWorld(1)
    const token = await before.issue(await before.replica(), facts())
    const after = openWorld(2)
    const one = await after.replica()
    for (const [key, row] of before.rows) after.rows.set(key, row)
    expect(await after.bit(one, token)).toBe('no list')
    const next = await after.issue(one, facts())
    expect(next.status.status_list.uri).toBe(`${URI}2-1`)
    expect(one.lists()).toEqual(['2-1'])
  })
})

const HOPS: readonly CheckedHop[] = [{ rev: { generation: 1, sequence: 0 }, facts: facts() }]

/** What the log says of these hops. */
const createCheck = (world: ReturnType<typeof openWorld>, hops: readonly CheckedHop[]) => ({
  dead:
    hops.length > 0 && world.isDead({ hops, jti: '', exp: 0, status: { status_list: { idx: 0, uri: '' } } } as never),
})
