/** Tries to overspend a tree, to open children of what has ended, and to end things twice. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Budget, Task } from '../../src/tasks/task.ts'
import type { Stores } from '../../src/store/open.ts'
import { fresh, type OpenWorld, range, START, worlds } from './world.ts'

export function someTask(over: Partial<Task> = {}, parent?: Task): Task {
  const id = over.id ?? fresh('task')
  return {
    id,
    ...(parent && { parent: parent.id }),
    root: parent?.root ?? id,
    depth: (parent?.depth ?? 0) + 1,
    subject: { id: 'company|alice', issuer: 'company', groups: ['support'], claims: { vip: true }, autonomous: false },
    agent: 'research',
    agentSpiffeId: 'spiffe://company.example/agents/research',
    purpose: 'answer ticket 4711',
    context: { environment: 'production', dataClassification: 'internal' },
    budget: {},
    authority: [{ tool: 'tickets', operation: 'list' }],
    state: 'active',
    createdAt: START,
    deadline: START + 3600,
    spent: { calls: 0, exchanges: 0, cost: 0 },
    ...over,
  }
}

const calls = (count: number, operationId = fresh('op')) => ({ calls: count, exchanges: 0, cost: 0, operationId })

export function describeTaskStore(name: string, open: OpenWorld): void {
  describe(`task store, ${name}`, () => {
    const world = worlds(open)

    async function opened(stores: Stores, over: Partial<Task> = {}, parent?: Task): Promise<Task> {
      const task = someTask(over, parent)
      expect(await stores.tasks.open(task, START)).toBe('opened')
      return task
    }

    it('gives back what was opened, also on another replica and after a restart', async () => {
      const before = await world()
      const root = await opened(before.stores, {
        budget: { maxCalls: 10, maxExchanges: 20, maxCost: 30, maxDurationSeconds: 40 },
        heartbeatSeconds: 30,
        heartbeatBy: START + 30,
      })
      const child = await opened(before.stores, { createdAt: START + 1 }, root)
      expect(await before.other.tasks.get(root.id)).toEqual(root)
      const { stores } = await before.reopen()
      expect(await stores.tasks.get(root.id)).toEqual(root)
      expect(await stores.tasks.get(child.id)).toEqual(child)
      expect(await stores.tasks.tree(root.id)).toEqual([root, child])
      expect(await stores.tasks.get('task_nobody')).toBeUndefined()
      expect(await stores.tasks.tree('task_nobody')).toEqual([])
    })

    it('opens an id once', async () => {
      const { stores, other } = await world()
      const task = someTask()
      const answers = await Promise.all(
        range(10).map((n) => (n % 2 ? stores : other).tasks.open({ ...task, purpose: `try ${n}` }, START)),
      )
      expect(answers.filter((answer) => answer === 'opened')).toHaveLength(1)
      expect(answers.filter((answer) => answer === 'exists')).toHaveLength(9)
      expect((await stores.tasks.get(task.id))?.purpose).toBe(`try ${answers.indexOf('opened')}`)
    })

    it('opens no child of a task that is unknown, has ended, or is past a deadline or heartbeat, at any height', async () => {
      const { stores } = await world()
      const silent = await opened(stores, { heartbeatSeconds: 30, heartbeatBy: START + 30 })
      const under = await opened(stores, {}, silent)
      expect(await stores.tasks.open(someTask({}, someTask()), START)).toBe('parent_not_active')
      expect(await stores.tasks.open(someTask({}, under), START + 30)).toBe('opened')
      // The root missed its heartbeat; nobody has swept yet.
      expect(await stores.tasks.open(someTask({}, under), START + 31)).toBe('parent_not_active')
      const root = await opened(stores)
      const middle = await opened(stores, { deadline: START + 1800 }, root)
      expect(await stores.tasks.open(someTask({}, middle), START + 1799)).toBe('opened')
      expect(await stores.tasks.open(someTask({}, middle), START + 1800)).toBe('parent_not_active')
      await stores.tasks.end(middle.id, 'completed', 'done', START + 1)
      expect(await stores.tasks.open(someTask({}, middle), START + 1)).toBe('parent_not_active')
      expect(await stores.tasks.open(someTask({}, root), START + 1)).toBe('opened')
    })

    it('ends a tree in one step, answers what it ended parents first, and leaves what had ended as it was', async () => {
      const { stores, other } = await world()
      const root = await opened(stores)
      const left = await opened(stores, {}, root)
      const right = await opened(stores, {}, root)
      const leaf = await opened(stores, {}, left)
      const outside = await opened(stores)
      expect(await stores.tasks.end(right.id, 'completed', 'done', START + 1)).toEqual([right.id])
      const ended = await other.tasks.end(root.id, 'cancelled', 'no longer wanted', START + 2)
      expect([...ended].sort()).toEqual([root.id, left.id, leaf.id].sort())
      expect(ended[0]).toBe(root.id)
      expect(ended.indexOf(left.id)).toBeLessThan(ended.indexOf(leaf.id))
      expect(await stores.tasks.get(leaf.id)).toEqual({
        ...leaf,
        state: 'cancelled',
        endedAt: START + 2,
        endedReason: 'no longer wanted',
      })
      expect((await stores.tasks.get(right.id))?.state).toBe('completed')
      expect((await stores.tasks.get(outside.id))?.state).toBe('active')
      expect(await stores.tasks.end(root.id, 'revoked', 'again', START + 3)).toEqual([])
      expect(await stores.tasks.end('task_nobody', 'revoked', 'who', START + 3)).toEqual([])
      expect((await stores.tasks.get(root.id))?.state).toBe('cancelled')
    })

    it('ends each task once when many end it at the same time', async () => {
      const { stores, other } = await world()
      const root = await opened(stores)
      const child = await opened(stores, {}, root)
      const answers = await Promise.all([
        ...range(10).map((n) => (n % 2 ? stores : other).tasks.end(root.id, 'cancelled', 'a', START)),
        ...range(10).map((n) => (n % 2 ? stores : other).tasks.end(child.id, 'completed', 'b', START)),
      ])
      expect(answers.flat().sort()).toEqual([root.id, child.id].sort())
    })

    it('leaves no living child behind when children open while the parent ends', async () => {
      const { stores, other } = await world()
      for (const round of range(10)) {
        const root = await opened(stores)
        const kids = range(20).map(() => someTask({}, root))
        const answers = await Promise.all([
          ...kids.slice(0, 10 + (round % 5)).map((kid, n) => (n % 2 ? stores : other).tasks.open(kid, START)),
          other.tasks.end(root.id, 'revoked', 'stolen', START),
          ...kids.slice(10 + (round % 5)).map((kid, n) => (n % 2 ? stores : other).tasks.open(kid, START)),
        ])
        const states = (await stores.tasks.tree(root.id)).map((task) => task.state)
        expect(states).toHaveLength(1 + answers.filter((answer) => answer === 'opened').length)
        expect(new Set(states)).toEqual(new Set(['revoked']))
      }
    })

    it('never overspends a random tree, charges every ancestor, and reserves all or nothing', async () => {
      const { stores, other } = await world()
      const budget = fc.record(
        {
          maxCalls: fc.integer({ min: 0, max: 12 }),
          maxExchanges: fc.integer({ min: 0, max: 12 }),
          maxCost: fc.integer({ min: 0, max: 40 }),
        },
        { requiredKeys: [] },
      )
      const node = fc.record({ above: fc.nat(), budget })
      const amount = fc.record({ at: fc.nat(), calls: fc.nat(4), exchanges: fc.nat(4), cost: fc.nat(12) })
      await fc.assert(
        fc.asyncProperty(
          fc.array(node, { minLength: 1, maxLength: 7 }),
          fc.array(amount, { minLength: 1, maxLength: 40 }),
          async (nodes, amounts) => {
            const tasks: Task[] = []
            for (const [index, { above, budget }] of nodes.entries()) {
              const parent = index === 0 ? undefined : tasks[above % index]
              tasks.push(await opened(stores, { budget: budget as Budget }, parent))
            }
            const asked = amounts.map(({ at, ...rest }) => ({ task: tasks[at % tasks.length]!, amount: rest }))
            const answers = await Promise.all(
              asked.map(({ task, amount }, n) =>
                (n % 2 ? stores : other).tasks.reserve(task.id, { ...amount, operationId: fresh('op') }, START),
              ),
            )
            const after = new Map((await stores.tasks.tree(tasks[0]!.id)).map((task) => [task.id, task]))
            for (const task of tasks) {
              const expected = { calls: 0, exchanges: 0, cost: 0 }
              for (const [index, { task: charged, amount }] of asked.entries()) {
                if (answers[index]?.outcome !== 'reserved' || !isUnder(charged, task, after)) continue
                expected.calls += amount.calls
                expected.exchanges += amount.exchanges
                expected.cost += amount.cost
              }
              const { spent } = after.get(task.id)!
              expect(spent).toEqual(expected)
              expect(spent.calls).toBeLessThanOrEqual(task.budget.maxCalls ?? Number.POSITIVE_INFINITY)
              expect(spent.exchanges).toBeLessThanOrEqual(task.budget.maxExchanges ?? Number.POSITIVE_INFINITY)
              expect(spent.cost).toBeLessThanOrEqual(task.budget.maxCost ?? Number.POSITIVE_INFINITY)
            }
            // Nothing was refused that still fits when everything is over: spending only grows.
            for (const [index, answer] of answers.entries()) {
              if (answer.outcome !== 'exhausted') continue
              const again = await stores.tasks.reserve(asked[index]!.task.id, asked[index]!.amount, START)
              expect(again.outcome).toBe('exhausted')
            }
          },
        ),
        { numRuns: 40 },
      )
    })

    it('says whose budget does not suffice, and for what', async () => {
      const { stores } = await world()
      const root = await opened(stores, { budget: { maxCost: 5 } })
      const child = await opened(stores, { budget: { maxCalls: 1 } }, root)
      const ask = (amount: object) =>
        stores.tasks.reserve(child.id, { calls: 0, exchanges: 0, cost: 0, ...amount }, START)
      expect(await ask({ calls: 2 })).toEqual({ outcome: 'exhausted', of: child.id, budget: 'calls' })
      expect(await ask({ calls: 1, cost: 6 })).toEqual({ outcome: 'exhausted', of: root.id, budget: 'cost' })
      expect(await ask({ calls: 1, cost: 5 })).toMatchObject({
        outcome: 'reserved',
        spent: { calls: 1, exchanges: 0, cost: 5 },
      })
      expect(await ask({ exchanges: 1000 })).toMatchObject({ outcome: 'reserved' })
    })

    it('takes no amount that is negative, fractional or beyond exact integers', async () => {
      const { stores } = await world()
      const root = await opened(stores)
      const amounts = [{ calls: -1 }, { cost: 0.5 }, { exchanges: Number.NaN }, { cost: 2 ** 53 }]
      for (const amount of amounts) {
        const asked = stores.tasks.reserve(root.id, { calls: 0, exchanges: 0, cost: 0, ...amount }, START)
        await expect(asked).rejects.toThrow(RangeError)
      }
      const most = { calls: 0, exchanges: 0, cost: Number.MAX_SAFE_INTEGER }
      expect(await stores.tasks.reserve(root.id, most, START)).toMatchObject({ outcome: 'reserved' })
      expect(await stores.tasks.reserve(root.id, { ...most, cost: 1 }, START)).toMatchObject({ outcome: 'exhausted' })
    })

    it('answers an operation id as the first time, also in parallel, after a restart and after the task has ended', async () => {
      const before = await world()
      const root = await opened(before.stores, { budget: { maxCalls: 5 } })
      const first = await before.stores.tasks.reserve(root.id, calls(2, 'op-1'), START)
      expect(first).toEqual({ outcome: 'reserved', spent: { calls: 2, exchanges: 0, cost: 0 } })
      await before.stores.tasks.reserve(root.id, calls(1, 'op-2'), START)
      const again = await Promise.all(
        range(10).map((n) => (n % 2 ? before.stores : before.other).tasks.reserve(root.id, calls(2, 'op-1'), START)),
      )
      for (const answer of again) expect(answer).toEqual(first)
      const { stores } = await before.reopen()
      await stores.tasks.end(root.id, 'completed', 'done', START)
      expect(await stores.tasks.reserve(root.id, calls(2, 'op-1'), START)).toEqual(first)
      expect((await stores.tasks.get(root.id))?.spent.calls).toBe(3)
    })

    it('reserves from no tree in which one task up to the root is not active', async () => {
      const { stores } = await world()
      const root = await opened(stores, { heartbeatSeconds: 30, heartbeatBy: START + 30 })
      const child = await opened(stores, {}, root)
      expect(await stores.tasks.reserve(child.id, calls(1), START + 31)).toEqual({
        outcome: 'not_active',
        state: 'expired',
      })
      expect(await stores.tasks.reserve('task_nobody', calls(1), START)).toEqual({
        outcome: 'not_active',
        state: 'unknown',
      })
      await stores.tasks.end(child.id, 'cancelled', 'x', START)
      expect(await stores.tasks.reserve(child.id, calls(1), START)).toEqual({
        outcome: 'not_active',
        state: 'cancelled',
      })
      expect((await stores.tasks.get(root.id))?.spent.calls).toBe(0)
    })

    it('spends nothing of a task that ends at the same time as it is charged', async () => {
      const { stores, other } = await world()
      for (const _ of range(5)) {
        const root = await opened(stores)
        const answers = await Promise.all([
          ...range(20).map((n) => (n % 2 ? stores : other).tasks.reserve(root.id, calls(1), START)),
          other.tasks.end(root.id, 'revoked', 'stolen', START),
          ...range(20).map((n) => (n % 2 ? stores : other).tasks.reserve(root.id, calls(1), START)),
        ])
        const reserved = answers.filter((answer) => 'outcome' in answer && answer.outcome === 'reserved')
        expect((await stores.tasks.get(root.id))?.spent.calls).toBe(reserved.length)
        expect(await stores.tasks.reserve(root.id, calls(1), START)).toMatchObject({ outcome: 'not_active' })
      }
    })

    it('suspends a task with all below it, and wakes what nothing else holds, once', async () => {
      const before = await world()
      const root = await opened(before.stores, { heartbeatSeconds: 30, heartbeatBy: START + 30 })
      const child = await opened(before.stores, { createdAt: START + 1 }, root)
      const over = await opened(before.stores, { createdAt: START + 2 }, root)
      const beside = await opened(before.stores)
      await before.stores.tasks.end(over.id, 'completed', 'done', START + 3)
      expect(await before.stores.tasks.suspend(root.id, 'rev_one', START)).toEqual([root.id, child.id])
      expect(await before.other.tasks.suspend(child.id, 'rev_two', START)).toEqual([child.id])
      expect(await before.stores.tasks.suspend(root.id, 'rev_one', START)).toEqual([root.id, child.id])
      expect(await before.stores.tasks.suspend(over.id, 'rev_one', START)).toEqual([])
      const { stores, other } = await before.reopen()
      const stateOf = async (id: string) => {
        const { state, suspendedBy } = (await other.tasks.get(id))!
        return [state, suspendedBy]
      }
      expect(await stateOf(root.id)).toEqual(['suspended', ['rev_one']])
      expect(await stateOf(child.id)).toEqual(['suspended', ['rev_one', 'rev_two']])
      expect(await stateOf(over.id)).toEqual(['completed', undefined])
      expect(await stateOf(beside.id)).toEqual(['active', undefined])
      expect([...(await other.tasks.holders())].sort()).toEqual(['rev_one', 'rev_two'])
      const free = await other.tasks.list({ state: 'suspended', notHeldBy: 'rev_two', limit: 9 })
      expect(free.map(({ id }) => id)).toEqual([root.id])
      // Nothing is opened below, reserved or kept alive meanwhile, and no heartbeat is missed.
      expect(await stores.tasks.open(someTask({}, root), START + 1)).toBe('parent_not_active')
      expect(await stores.tasks.reserve(child.id, calls(1), START + 1)).toEqual({
        outcome: 'not_active',
        state: 'suspended',
      })
      expect(await stores.tasks.beat(root.id, START + 1)).toBe(false)
      expect(await stores.tasks.due(START + 1000, 10)).toEqual([])

      expect(await stores.tasks.wake('rev_one', START + 1000)).toEqual([root.id])
      expect(await stores.tasks.wake('rev_one', START + 1000)).toEqual([])
      expect(await stores.tasks.get(root.id)).toEqual({ ...root, heartbeatBy: START + 1030 })
      expect(await stateOf(child.id)).toEqual(['suspended', ['rev_two']])
      expect(await stores.tasks.due(START + 1031, 10)).toEqual([root.id])
      expect(await other.tasks.wake('rev_two', START + 1000)).toEqual([child.id])
      expect(await other.tasks.holders()).toEqual([])
      expect(await stores.tasks.get(child.id)).toEqual(child)
    })

    it('Inv10 takes authority from a task and from all below it for good, and from what is opened below it later', async () => {
      const before = await world()
      const grants = ['list', 'read', 'close'].map((operation) => ({ tool: 'tickets', operation }))
      const authority = [...grants, { tool: 'crm', operation: 'read' }]
      const root = await opened(before.stores, { authority })
      const child = await opened(before.stores, { authority, createdAt: START + 1 }, root)
      const over = await opened(before.stores, { authority, createdAt: START + 2 }, root)
      const silent = await opened(before.stores, { heartbeatSeconds: 30, heartbeatBy: START + 30, authority }, root)
      await before.stores.tasks.end(over.id, 'completed', 'done', START + 3)
      const one = { by: 'rev_one', tools: ['crm'], operations: ['tickets:close'] }
      const two = { by: 'rev_two', tools: [], operations: ['tickets:read'] }
      expect(await before.stores.tasks.contain(root.id, one, START + 40)).toEqual([root.id, child.id])
      expect(await before.other.tasks.contain(root.id, one, START + 40)).toEqual([root.id, child.id])
      expect(await before.other.tasks.contain(child.id, two, START + 40)).toEqual([child.id])
      // An exchange under way opens it with what it had read of its parent before.
      const late = someTask({ authority, createdAt: START + 4 }, child)
      expect(await before.stores.tasks.open(late, START + 20)).toBe('opened')
      const { stores, other } = await before.reopen()
      for (const { tasks } of [stores, other]) {
        expect(await tasks.get(root.id)).toEqual({ ...root, authority: grants.slice(0, 2), contained: [one] })
        expect(await tasks.get(child.id)).toEqual({ ...child, authority: [grants[0]], contained: [one, two] })
        expect(await tasks.get(late.id)).toEqual({ ...late, authority: [grants[0]], contained: [one, two] })
        expect((await tasks.tree(root.id)).map((each) => each.authority.length).sort()).toEqual([1, 1, 2, 4, 4])
        const free = await tasks.list({ state: 'active', notContainedBy: 'rev_two', limit: 9 })
        expect(free.map(({ id }) => id).sort()).toEqual([root.id, silent.id].sort())
      }
      // What a revocation did to a task the task says itself.
      await stores.tasks.end(root.id, 'revoked', 'no longer wanted (rev_three)', START + 41)
      const touched = async (by: string) =>
        (await other.tasks.list({ touchedBy: by, limit: 9 })).map(({ id }) => id).sort()
      expect(await touched('rev_two')).toEqual([child.id, late.id].sort())
      expect(await touched('rev_three')).toEqual([root.id, child.id, late.id, silent.id].sort())
      expect(await touched('rev_four')).toEqual([])
      expect((await stores.tasks.get(over.id))?.contained).toBeUndefined()
      expect(await stores.tasks.contain(over.id, two, START + 40)).toEqual([])
    })

    it('wakes nothing that ended meanwhile, and suspends nothing that has ended unswept', async () => {
      const { stores } = await world()
      const task = await opened(stores)
      const silent = await opened(stores, { heartbeatSeconds: 30, heartbeatBy: START + 30 })
      await stores.tasks.suspend(task.id, 'rev_one', START)
      expect(await stores.tasks.suspend(silent.id, 'rev_one', START + 31)).toEqual([])
      expect(await stores.tasks.end(task.id, 'cancelled', 'given up', START + 5)).toEqual([task.id])
      expect(await stores.tasks.wake('rev_one', START + 10)).toEqual([])
      const ended = await stores.tasks.get(task.id)
      expect([ended?.state, ended?.suspendedBy]).toEqual(['cancelled', undefined])
      expect((await stores.tasks.get(silent.id))?.state).toBe('active')
    })

    it('holds nothing any more by what has ended', async () => {
      const { stores, other } = await world()
      const root = await opened(stores)
      const child = await opened(stores, {}, root)
      const beside = await opened(stores)
      const [one, two] = [fresh('rev'), fresh('rev')]
      await stores.tasks.suspend(root.id, one, START)
      for (const id of [child.id, beside.id]) await stores.tasks.suspend(id, two, START)
      await stores.tasks.end(root.id, 'cancelled', 'over', START)
      expect(await other.tasks.holders()).toEqual([two])
      expect((await other.tasks.get(child.id))?.suspendedBy).toBeUndefined()
      expect(await stores.tasks.wake(two, START)).toEqual([beside.id])
      expect(await other.tasks.holders()).toEqual([])
    })

    it('wakes thousands in parts', async () => {
      const { stores } = await world()
      const root = await opened(stores)
      for (let from = 0; from < 1200; from += 200)
        await Promise.all(range(200).map(() => opened(stores, { createdAt: START + 1 }, root)))
      expect(await stores.tasks.suspend(root.id, 'rev_many', START)).toHaveLength(1201)
      expect(new Set(await stores.tasks.wake('rev_many', START)).size).toBe(1201)
      expect(await stores.tasks.list({ state: 'suspended', limit: 10 })).toEqual([])
    })

    it('moves the heartbeat of an active task, and of no other', async () => {
      const { stores } = await world()
      const task = await opened(stores, { heartbeatSeconds: 30, heartbeatBy: START + 30 })
      expect(await stores.tasks.beat(task.id, START + 30)).toBe(true)
      expect((await stores.tasks.get(task.id))?.heartbeatBy).toBe(START + 60)
      expect(await stores.tasks.beat(task.id, START + 61)).toBe(false)
      expect((await stores.tasks.get(task.id))?.heartbeatBy).toBe(START + 60)
      const quiet = await opened(stores)
      expect(await stores.tasks.beat(quiet.id, START)).toBe(true)
      expect(await stores.tasks.get(quiet.id)).toEqual(quiet)
      await stores.tasks.end(quiet.id, 'completed', 'done', START)
      expect(await stores.tasks.beat(quiet.id, START)).toBe(false)
      expect(await stores.tasks.beat('task_nobody', START)).toBe(false)
    })

    it('finds what is due by deadline or heartbeat, and forgets it once it has ended', async () => {
      const { stores } = await world()
      const late = await opened(stores, { deadline: START + 10 })
      const silent = await opened(stores, { heartbeatSeconds: 5, heartbeatBy: START + 5 })
      const both = await opened(stores, { deadline: START + 10, heartbeatSeconds: 5, heartbeatBy: START + 5 })
      await opened(stores)
      expect(await stores.tasks.due(START + 5, 10)).toEqual([])
      expect([...(await stores.tasks.due(START + 6, 10))].sort()).toEqual([silent.id, both.id].sort())
      expect([...(await stores.tasks.due(START + 10, 10))].sort()).toEqual([late.id, silent.id, both.id].sort())
      expect(await stores.tasks.due(START + 10, 2)).toHaveLength(2)
      await stores.tasks.beat(silent.id, START + 5)
      await stores.tasks.end(both.id, 'expired', 'deadline', START + 10)
      expect(await stores.tasks.due(START + 10, 10)).toEqual([late.id])
    })

    it('lists the newest first, by agent, SPIFFE id, subject and state', async () => {
      const { stores } = await world()
      const subject = { ...someTask().subject, id: 'company|bob' }
      const one = await opened(stores, { createdAt: START + 1, agent: 'triage' })
      const agentSpiffeId = 'spiffe://company.example/agents/payments'
      const two = await opened(stores, { createdAt: START + 2, agent: 'payments', agentSpiffeId, subject })
      const three = await opened(stores, { createdAt: START + 3, agent: 'triage', subject })
      await stores.tasks.end(three.id, 'completed', 'done', START + 4)
      const ids = async (filter: object, limit = 10) =>
        (await stores.tasks.list({ ...filter, limit })).map((task) => task.id)
      expect(await ids({})).toEqual([three.id, two.id, one.id])
      expect(await ids({}, 2)).toEqual([three.id, two.id])
      expect(await ids({ agent: 'triage' })).toEqual([three.id, one.id])
      expect(await ids({ agentSpiffeId })).toEqual([two.id])
      expect(await ids({ agentSpiffeId, agent: 'triage' })).toEqual([])
      expect(await ids({ subject: 'company|bob' })).toEqual([three.id, two.id])
      expect(await ids({ agent: 'triage', state: 'active' })).toEqual([one.id])
      expect(await ids({ agent: 'triage', subject: 'company|bob', state: 'active' })).toEqual([])
      const release = 'LzlSROKt2j9LESu-fPVgo8'
      const four = await opened(stores, { agentSpiffeId: 'spiffe://company.example.org/agents/x', release })
      expect(await ids({ domain: 'company.example' })).toEqual([three.id, two.id, one.id])
      expect(await ids({ domain: 'company.example.org' })).toEqual([four.id])
      expect(await ids({ domain: 'company' })).toEqual([])
      expect(await ids({ release })).toEqual([four.id])
      expect(await ids({ release, domain: 'company.example' })).toEqual([])
      expect((await stores.tasks.get(four.id))?.release).toBe(release)
    })

    it('forgets ended tasks past their deadline with their operation ids, and nothing that lives', async () => {
      const { stores } = await world()
      const root = await opened(stores, { deadline: START + 100 })
      const child = await opened(stores, { deadline: START + 50 }, root)
      await stores.tasks.reserve(child.id, calls(1, 'op'), START)
      await stores.tasks.end(child.id, 'completed', 'done', START + 1)
      await stores.tasks.prune(START + 50)
      expect(await stores.tasks.get(child.id)).toBeDefined()
      await stores.tasks.prune(START + 1000)
      expect(await stores.tasks.get(child.id)).toBeUndefined()
      expect(await stores.tasks.tree(root.id)).toHaveLength(1)
      expect(await stores.tasks.list({ limit: 10 })).toHaveLength(1)
      expect(await stores.tasks.reserve(child.id, calls(1, 'op'), START)).toEqual({
        outcome: 'not_active',
        state: 'unknown',
      })
    })
  })
}

function isUnder(task: Task, above: Task, all: ReadonlyMap<string, Task>): boolean {
  for (let next: Task | undefined = task; next; next = next.parent === undefined ? undefined : all.get(next.parent)) {
    if (next.id === above.id) return true
  }
  return false
}
