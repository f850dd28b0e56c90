/** Tries to let a dead token live, a live one die, and an epoch speak of an entry it has not seen. */
import { type Epoch, compareEpochs } from '@errand/verifier/epoch.ts'
import { type Dimension, DIMENSIONS, type HopFacts, MAX_SHAPES } from '@errand/verifier/shapes.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { NewRevocation, Revocation } from '../../src/revoke/revocation-log.ts'
import { fresh, type OpenWorld, range, START, worlds } from './world.ts'

const entry = (match: HopFacts, over: Partial<NewRevocation> = {}): NewRevocation => ({
  id: fresh('rev'),
  match,
  mode: 'cut',
  reason: 'test',
  by: 'admin',
  at: START,
  expiresAt: START + 3600,
  ...over,
})

const HOP: HopFacts = {
  jti: 'jti-1',
  task: 'task-1',
  root: 'task-1',
  sub: 'company|alice',
  agent: 'spiffe://company.example/agents/research',
  client_id: 'research',
  aud: 'https://tickets.example.com/',
  kid: 'kid-1',
  policy: 'pol-1',
  domain: 'company.example',
}

export function describeRevocationLog(name: string, open: OpenWorld): void {
  describe(`revocation log, ${name}`, () => {
    const world = worlds(open)

    it('L7 kills what was checked before an entry and nothing that was checked after it, also after a restart', async () => {
      const before = await world()
      const early = await before.stores.revocations.epoch()
      const added = await before.stores.revocations.add(entry({ agent: HOP.agent! }))
      expect(added.added).toBe(true)
      for (const time of ['before', 'after'] as const) {
        const { stores, other } = time === 'before' ? before : await before.reopen()
        for (const log of [stores.revocations, other.revocations]) {
          const old = await log.check({ hops: [{ facts: HOP, rev: early }] })
          expect(old).toEqual({ epoch: added.entry.epoch, dead: { entry: added.entry.id, hop: 0 } })
          expect(await log.check({ hops: [{ facts: HOP, rev: added.entry.epoch }] })).toEqual({
            epoch: added.entry.epoch,
          })
          const stranger = { facts: { ...HOP, agent: 'spiffe://company.example/agents/other' }, rev: early }
          expect(await log.check({ hops: [stranger] })).toEqual({ epoch: added.entry.epoch })
        }
      }
    })

    it('kills before a mark what an entry says of it and nothing checked since, whatever came in between', async () => {
      const first = await world()
      const log = first.stores.revocations
      const early = await log.epoch()
      const between = await log.add(entry({ task: 'task-9' }))
      const mark = await first.other.revocations.mark()
      expect(compareEpochs(mark, between.entry.epoch)).toBeGreaterThan(0)
      expect(await log.epoch()).toEqual(mark)
      const other = { ...HOP, client_id: 'other' }
      const late = await log.add(entry({ client_id: 'other' }))
      const pinned = await log.add(entry({ client_id: HOP.client_id! }, { before: mark }))
      const older = await log.add(entry({ client_id: 'other' }, { mode: 'suspend', before: mark }))
      expect(pinned.entry.before).toEqual(mark)
      const check = async ({ revocations }: typeof first.stores) => {
        expect((await revocations.check({ hops: [{ facts: HOP, rev: early }] })).dead?.entry).toBe(pinned.entry.id)
        const since = await revocations.check({ hops: [{ facts: HOP, rev: mark }], issuing: HOP })
        expect(since).toEqual({ epoch: older.entry.epoch })
        // An older mark takes nothing back of what a later entry killed, and keeps nothing out.
        const dead = await revocations.check({ hops: [{ facts: other, rev: mark }] })
        expect(dead.dead?.entry).toBe(late.entry.id)
        expect((await revocations.check({ hops: [], issuing: other })).banned).toBeUndefined()
        expect((await revocations.bans(START)).map(({ id }) => id)).toContain(older.entry.id)
        expect((await revocations.get(pinned.entry.id))?.before).toEqual(mark)
      }
      await check(first.other)
      const again = await first.reopen()
      await check(again.stores)
      expect(await again.stores.revocations.readmit(older.entry.id, 'admin', 'over', START)).toBe(true)
    })

    it('says that it moved by a mark, also to another replica', async () => {
      const { stores, other } = await world()
      let moves = 0
      const unlisten = other.revocations.onAdded(
        () => undefined,
        () => {
          moves += 1
        },
      )
      await stores.revocations.mark()
      await expect.poll(() => moves).toBeGreaterThan(0)
      unlisten()
    })

    it('counts on after a restart, also when the newest entries were dropped', async () => {
      const before = await world()
      await before.stores.revocations.add(entry({ jti: 'a' }))
      const last = await before.stores.revocations.add(entry({ jti: 'b' }, { expiresAt: START + 1 }))
      before.clock.now = START + 2
      await before.stores.revocations.prune(START + 2)
      const { stores } = await before.reopen()
      expect(await stores.revocations.epoch()).toEqual(last.entry.epoch)
      const next = await stores.revocations.add(entry({ jti: 'c' }))
      expect(compareEpochs(next.entry.epoch, last.entry.epoch)).toBe(1)
    })

    it('names the hop that is dead: a token dies with any ancestor', async () => {
      const { stores } = await world()
      const rev = await stores.revocations.epoch()
      const parent = { ...HOP, jti: 'jti-0', agent: 'spiffe://company.example/agents/parent' }
      const { entry: stored } = await stores.revocations.add(entry({ jti: 'jti-0' }))
      const hops = [
        { facts: HOP, rev: stored.epoch },
        { facts: parent, rev },
      ]
      expect((await stores.revocations.check({ hops })).dead).toEqual({ entry: stored.id, hop: 1 })
    })

    it('holds a conjunction against one hop at a time', async () => {
      const { stores } = await world()
      const rev = await stores.revocations.epoch()
      const parent = { ...HOP, agent: 'spiffe://company.example/agents/parent', aud: 'https://crm.example.com/' }
      await stores.revocations.add(entry({ agent: parent.agent, aud: HOP.aud! }))
      const hops = [
        { facts: HOP, rev },
        { facts: parent, rev },
      ]
      expect((await stores.revocations.check({ hops })).dead).toBeUndefined()
      const both = await stores.revocations.add(entry({ agent: parent.agent, aud: parent.aud }))
      expect((await stores.revocations.check({ hops })).dead).toEqual({ entry: both.entry.id, hop: 1 })
    })

    it('does not mistake one value for two, or a long one for another', async () => {
      const { stores } = await world()
      const rev = await stores.revocations.epoch()
      await stores.revocations.add(entry({ agent: 'a","b', aud: 'c' }))
      const long = 'x'.repeat(400)
      await stores.revocations.add(entry({ sub: `${long}1` }))
      const dead = async (facts: HopFacts) => (await stores.revocations.check({ hops: [{ facts, rev }] })).dead
      expect(await dead({ agent: 'a', aud: 'b","c' })).toBeUndefined()
      expect(await dead({ sub: `${long}2` })).toBeUndefined()
      expect(await dead({ agent: 'a","b', aud: 'c' })).toBeDefined()
      expect(await dead({ sub: `${long}1` })).toBeDefined()
    })

    it('kills everything with an entry that matches everything', async () => {
      const { stores } = await world()
      const rev = await stores.revocations.epoch()
      const { entry: stored } = await stores.revocations.add(entry({}))
      expect((await stores.revocations.check({ hops: [{ facts: HOP, rev }] })).dead?.entry).toBe(stored.id)
      expect((await stores.revocations.check({ hops: [{ facts: HOP, rev: stored.epoch }] })).dead).toBeUndefined()
    })

    it('O4 kills whatever a compromised key signed, whatever epoch the token claims', async () => {
      const { stores } = await world()
      const { entry: stored } = await stores.revocations.add(entry({ kid: 'kid-1' }, { absolute: true, mode: 'ban' }))
      const rev = { generation: 9, sequence: 999_999 }
      expect((await stores.revocations.check({ hops: [{ facts: HOP, rev }] })).dead).toEqual({
        entry: stored.id,
        hop: 0,
      })
    })

    it('L15 bans in the same step in which tokens die: the new hop, and what would descend from a banned one', async () => {
      const { stores, other } = await world()
      const rev = await stores.revocations.epoch()
      const { entry: stored } = await stores.revocations.add(entry({ agent: HOP.agent! }, { mode: 'ban' }))
      const answer = await other.revocations.check({ hops: [], issuing: HOP })
      expect(answer).toEqual({ epoch: stored.epoch, banned: { entry: stored.id, dimensions: ['agent'] } })
      const child = { ...HOP, agent: 'spiffe://company.example/agents/child', client_id: 'child' }
      expect(await other.revocations.check({ hops: [{ facts: HOP, rev: stored.epoch }], issuing: child })).toEqual(
        answer,
      )
      expect(await other.revocations.check({ hops: [{ facts: child, rev }], issuing: child })).toEqual({
        epoch: stored.epoch,
      })
      // Without an issue there is nothing to ban.
      expect((await other.revocations.check({ hops: [{ facts: HOP, rev: stored.epoch }] })).banned).toBeUndefined()
    })

    it('L15 suspends in the same step in which tokens die, says so, and lets go once it is lifted', async () => {
      const before = await world()
      const rev = await before.stores.revocations.epoch()
      const asked = entry({ agent: HOP.agent! }, { mode: 'suspend', expiresAt: START + 20 })
      const { entry: stored } = await before.stores.revocations.add(asked)
      expect((await before.other.revocations.check({ hops: [{ facts: HOP, rev }] })).dead?.entry).toBe(stored.id)
      before.clock.now = START + 5000
      await before.stores.revocations.prune(START + 5000)
      const suspended = { entry: stored.id, dimensions: ['agent'], suspended: true }
      const shown = async ({ stores, other }: Pick<typeof before, 'stores' | 'other'>) => {
        for (const log of [stores.revocations, other.revocations]) {
          expect((await log.check({ hops: [], issuing: HOP })).banned).toEqual(suspended)
          expect(await log.bans(START + 5000)).toEqual([stored])
        }
      }
      await shown(before)
      const { stores, other } = await before.reopen()
      await shown({ stores, other })
      expect(await other.revocations.readmit(stored.id, 'admin', 'it was nothing', START + 5000)).toBe(true)
      expect((await stores.revocations.check({ hops: [], issuing: HOP })).banned).toBeUndefined()
    })

    it('tells of a containment whatever is issued to what it matches, until no exchange can be from before it', async () => {
      const before = await world()
      const rev = await before.stores.revocations.epoch()
      const taken = { tools: ['crm'], operations: ['tickets:close'], maxEffect: 'read' as const }
      const asked = entry({ task: HOP.task! }, { mode: 'contain', taken, expiresAt: START + 20 })
      const { entry: stored } = await before.stores.revocations.add(asked)
      const child = { ...HOP, task: 'task-2', jti: 'jti-2' }
      for (const time of ['before', 'after'] as const) {
        const { stores, other } = time === 'before' ? before : await before.reopen()
        for (const log of [stores.revocations, other.revocations]) {
          const issuing = await log.check({ hops: [], issuing: HOP })
          expect(issuing).toEqual({ epoch: stored.epoch, contained: [{ entry: stored.id, by: stored.id }] })
          const below = await log.check({ hops: [{ facts: HOP, rev: stored.epoch }], issuing: child })
          expect(below).toEqual(issuing)
          expect(await log.check({ hops: [], issuing: child })).toEqual({ epoch: stored.epoch })
          expect(await log.check({ hops: [{ facts: HOP, rev }] })).toMatchObject({ dead: { entry: stored.id } })
          expect(await log.get(stored.id)).toEqual({ ...asked, epoch: stored.epoch })
          expect(await log.bans(START)).toEqual([])
          if (time === 'before' || log === other.revocations) continue
          await log.prune(START + 20)
          expect((await other.revocations.check({ hops: [], issuing: HOP })).contained).toBeUndefined()
          return
        }
      }
    })

    it('L15 tells of an entry that closes a change to tasks as of what it closes, also after a restart', async () => {
      const before = await world()
      const closed = fresh('rev')
      const asked = entry({ task: HOP.task! }, { closes: closed })
      const { entry: stored } = await before.stores.revocations.add(asked)
      for (const time of ['before', 'after'] as const) {
        const { stores, other } = time === 'before' ? before : await before.reopen()
        for (const log of [stores.revocations, other.revocations]) {
          const told = await log.check({ hops: [], issuing: HOP })
          expect(told).toEqual({ epoch: stored.epoch, contained: [{ entry: stored.id, by: closed }] })
          expect(await log.check({ hops: [], issuing: { ...HOP, task: 'task-2' } })).toEqual({ epoch: stored.epoch })
          expect(await log.get(stored.id)).toEqual({ ...asked, epoch: stored.epoch })
        }
      }
    })

    it('tells of a containment for two hours, however long its entry is kept', async () => {
      const { stores, other } = await world()
      const { entry: stored } = await stores.revocations.add(
        entry({ task: HOP.task! }, { mode: 'contain', expiresAt: START + 86_400 }),
      )
      const told = async () => (await other.revocations.check({ hops: [], issuing: HOP })).contained?.length ?? 0
      await stores.revocations.prune(START + 7199)
      expect(await told()).toBe(1)
      await stores.revocations.prune(START + 7200)
      expect(await told()).toBe(0)
      const before = { generation: stored.epoch.generation, sequence: stored.epoch.sequence - 1 }
      const dead = await other.revocations.check({ hops: [{ facts: HOP, rev: before }] })
      expect(dead.dead?.entry).toBe(stored.id)
      await stores.revocations.prune(START + 86_400)
      expect(await other.revocations.get(stored.id)).toBeUndefined()
    })

    it('cuts without banning', async () => {
      const { stores } = await world()
      await stores.revocations.add(entry({ agent: HOP.agent! }))
      expect((await stores.revocations.check({ hops: [], issuing: HOP })).banned).toBeUndefined()
    })

    it('ends a ban by re-admission once, and old tokens stay dead', async () => {
      const before = await world()
      const rev = await before.stores.revocations.epoch()
      const { entry: stored } = await before.stores.revocations.add(entry({ agent: HOP.agent! }, { mode: 'ban' }))
      const answers = await Promise.all(
        range(10).map((n) =>
          (n % 2 ? before.stores : before.other).revocations.readmit(stored.id, 'admin', 'cleared', START + 5),
        ),
      )
      expect(answers.filter(Boolean)).toHaveLength(1)
      for (const time of ['before', 'after'] as const) {
        const { stores, other } = time === 'before' ? before : await before.reopen()
        for (const log of [stores.revocations, other.revocations]) {
          expect(await log.check({ hops: [], issuing: HOP })).toEqual({ epoch: stored.epoch })
          expect((await log.check({ hops: [{ facts: HOP, rev }] })).dead?.entry).toBe(stored.id)
          expect(await log.bans(START)).toEqual([])
          expect(await log.get(stored.id)).toEqual({
            ...stored,
            readmitted: { at: START + 5, by: 'admin', reason: 'cleared' },
          })
        }
      }
    })

    it('re-admits nothing that is not banned', async () => {
      const { stores } = await world()
      const cut = await stores.revocations.add(entry({ jti: 'x' }))
      const over = await stores.revocations.add(entry({ task: 'x' }, { mode: 'ban', banUntil: START + 10 }))
      expect(await stores.revocations.readmit(cut.entry.id, 'admin', 'x', START)).toBe(false)
      expect(await stores.revocations.readmit(over.entry.id, 'admin', 'x', START + 10)).toBe(false)
      expect(await stores.revocations.readmit('rev_nobody', 'admin', 'x', START)).toBe(false)
    })

    it('keeps one of two bans on the same thing when the other is lifted', async () => {
      const { stores } = await world()
      const [one, two] = [entry({ aud: HOP.aud! }, { mode: 'ban' }), entry({ aud: HOP.aud! }, { mode: 'ban' })]
      await stores.revocations.add(one)
      await stores.revocations.add(two)
      await stores.revocations.readmit(two.id, 'admin', 'x', START)
      expect((await stores.revocations.check({ hops: [], issuing: HOP })).banned?.entry).toBe(one.id)
      await stores.revocations.readmit(one.id, 'admin', 'x', START)
      expect((await stores.revocations.check({ hops: [], issuing: HOP })).banned).toBeUndefined()
    })

    it('lets a ban run out at its time, and keeps one without a time beyond the expiry of its entry', async () => {
      const before = await world()
      const timed = entry({ task: HOP.task! }, { mode: 'ban', banUntil: START + 10, expiresAt: START + 10 })
      const open = entry({ client_id: HOP.client_id! }, { mode: 'ban', expiresAt: START + 20 })
      await before.stores.revocations.add(timed)
      await before.stores.revocations.add(open)
      const banned = async (stores = before.stores) =>
        (await stores.revocations.check({ hops: [], issuing: HOP })).banned?.dimensions
      expect((await before.stores.revocations.bans(START)).map(({ id }) => id)).toEqual([timed.id, open.id])
      expect(await banned()).toBeDefined()
      before.clock.now = START + 10
      expect(await banned()).toEqual(['client_id'])
      expect((await before.stores.revocations.bans(START + 10)).map(({ id }) => id)).toEqual([open.id])
      before.clock.now = START + 5000
      await before.stores.revocations.prune(START + 5000)
      expect(await banned()).toEqual(['client_id'])
      const { stores } = await before.reopen()
      expect(await banned(stores)).toEqual(['client_id'])
      expect(await stores.revocations.get(open.id)).toBeDefined()
      expect(await stores.revocations.get(timed.id)).toBeUndefined()
    })

    it('drops an entry without dropping an older one that lives longer', async () => {
      const { stores, clock } = await world()
      const rev = await stores.revocations.epoch()
      const long = await stores.revocations.add(entry({ aud: HOP.aud! }))
      await stores.revocations.add(entry({ aud: HOP.aud! }, { expiresAt: START + 10 }))
      clock.now = START + 20
      await stores.revocations.prune(START + 20)
      expect((await stores.revocations.check({ hops: [{ facts: HOP, rev }] })).dead?.entry).toBe(long.entry.id)
    })

    it('adds an id once, whoever repeats it and however', async () => {
      const { stores, other } = await world()
      const asked = entry({ jti: 'once' })
      const answers = await Promise.all(
        range(20).map((n) => (n % 2 ? stores : other).revocations.add({ ...asked, reason: `try ${n}` })),
      )
      expect(answers.filter(({ added }) => added)).toHaveLength(1)
      const stored = answers.find(({ added }) => added)?.entry
      for (const answer of answers) expect(answer.entry).toEqual(stored)
      expect(await stores.revocations.get(asked.id)).toEqual(stored)
    })

    it('gives every entry a place of its own without gaps, and tells them in that order, on every replica', async () => {
      const { stores, other } = await world()
      const heard: [Epoch[], Epoch[]] = [[], []]
      stores.revocations.onAdded(({ epoch }) => heard[0].push(epoch))
      const stop = other.revocations.onAdded(({ epoch }) => heard[1].push(epoch))
      const start = await stores.revocations.epoch()
      await Promise.all(range(60).map((n) => (n % 2 ? stores : other).revocations.add(entry({ jti: `many-${n}` }))))
      const expected = range(60).map((n) => ({ generation: start.generation, sequence: start.sequence + n + 1 }))
      await expect.poll(() => heard[0].length).toBe(60)
      await expect.poll(() => heard[1].length).toBe(60)
      expect(heard).toEqual([expected, expected])
      stop()
      await stores.revocations.add(entry({ jti: 'after' }))
      await expect.poll(() => heard[0].length).toBe(61)
      expect(heard[1]).toHaveLength(60)
    })

    it('lists what lives after an epoch, in order, whole', async () => {
      const { stores, other, clock } = await world()
      const added: Revocation[] = []
      for (const n of range(5)) {
        const over = n === 3 ? { expiresAt: START + 10 } : n === 1 ? { mode: 'ban' as const, absolute: true } : {}
        added.push((await stores.revocations.add(entry({ jti: `n-${n}` }, over))).entry)
      }
      expect(await other.revocations.after()).toEqual(added)
      expect(await other.revocations.after(added[1]!.epoch)).toEqual(added.slice(2))
      expect(await other.revocations.after(added[4]!.epoch)).toEqual([])
      expect(await other.revocations.after({ generation: 0, sequence: 99 })).toEqual(added)
      clock.now = START + 10
      // What has expired may still be there: a clock that has jumped ahead is not believed at once.
      const living = (await other.revocations.after()).filter(({ expiresAt }) => clock.now < expiresAt)
      expect(living).toEqual(added.filter((_, n) => n !== 3))
    })

    it('L13 finds the dead by single look-ups among many entries', async () => {
      const { stores } = await world()
      const rev = await stores.revocations.epoch()
      // In portions: each must be answered before the store's time-out, on a busy machine too.
      for (let from = 0; from < 2000; from += 200)
        await Promise.all(range(200).map((n) => stores.revocations.add(entry({ jti: `bulk-${from + n}` }))))
      const answer = await stores.revocations.check({ hops: [{ facts: { ...HOP, jti: 'bulk-1234' }, rev }] })
      expect(answer.dead?.hop).toBe(0)
      expect((await stores.revocations.check({ hops: [{ facts: HOP, rev }] })).dead).toBeUndefined()
    })

    it('bounds the shapes a check must look at, and always has room for single dimensions and for everything', async () => {
      const { stores } = await world()
      const pairs = DIMENSIONS.flatMap((one, n) => DIMENSIONS.slice(n + 1).map((two) => [one, two] as const))
      const answers = await Promise.allSettled(
        pairs.map(([one, two]) => stores.revocations.add(entry({ [one]: 'x', [two]: 'y' }))),
      )
      const added = answers.filter(({ status }) => status === 'fulfilled').length
      expect(added).toBeGreaterThan(10)
      expect(added).toBeLessThanOrEqual(MAX_SHAPES - DIMENSIONS.length - 1)
      for (const answer of answers) {
        if (answer.status === 'rejected') expect(answer.reason).toMatchObject({ reason: 'overloaded' })
      }
      for (const match of [{}, ...DIMENSIONS.map((one) => ({ [one]: 'x' }))]) {
        expect((await stores.revocations.add(entry(match))).added).toBe(true)
      }
      const known = pairs[answers.findIndex(({ status }) => status === 'fulfilled')]!
      expect((await stores.revocations.add(entry({ [known[0]]: 'p', [known[1]]: 'q' }))).added).toBe(true)
    })

    it('answers no epoch without every entry and ban up to it, however adds and checks interleave', async () => {
      const { stores, other } = await world()
      const values = ['a', 'b'] as const
      const match = fc.record(
        { agent: fc.constantFrom(...values), aud: fc.constantFrom(...values), task: fc.constantFrom(...values) },
        { requiredKeys: [] },
      )
      const step = fc.oneof(
        fc.record({ do: fc.constant('add' as const), match, mode: fc.constantFrom('cut' as const, 'ban' as const) }),
        fc.record({ do: fc.constant('check' as const), facts: match, wait: fc.boolean() }),
      )
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
          const start = await stores.revocations.epoch()
          const marker = fresh('only-this-run')
          const mine = (facts: HopFacts): HopFacts => ({ ...facts, root: marker })
          const added: Promise<{ entry: Revocation }>[] = []
          const checks: Promise<{ facts: HopFacts; answer: Awaited<ReturnType<typeof stores.revocations.check>> }>[] =
            []
          for (const [n, one] of steps.entries()) {
            const log = (n % 2 ? stores : other).revocations
            if (one.do === 'add') added.push(log.add(entry(mine(one.match), { mode: one.mode })))
            else {
              const facts = mine(one.facts)
              const asked = log.check({ hops: [{ facts, rev: start }], issuing: facts })
              checks.push(asked.then((answer) => ({ facts, answer })))
              if (one.wait) await asked
            }
          }
          const entries = (await Promise.all(added)).map(({ entry }) => entry)
          for (const { facts, answer } of await Promise.all(checks)) {
            const seen = entries.filter(
              (one) => compareEpochs(one.epoch, answer.epoch) <= 0 && matches(one.match, facts),
            )
            expect(answer.dead !== undefined).toBe(seen.length > 0)
            expect(answer.banned !== undefined).toBe(seen.some(({ mode }) => mode === 'ban'))
          }
        }),
        { numRuns: 60 },
      )
    })
  })
}

const matches = (match: HopFacts, facts: HopFacts): boolean =>
  (Object.keys(match) as Dimension[]).every((dimension) => match[dimension] === facts[dimension])
