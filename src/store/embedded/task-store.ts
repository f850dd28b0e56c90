/**
 * The task tree in the embedded database: one row per task, one per remembered operation, none per token. Tasks that
 * are worked on are held in memory as the database has them, and what their tokens cost is journaled: this process
 * alone has the folder.
 */
import { createRemembered } from '../../attest/remembered.ts'
import { type Containment, leftOf } from '../../tasks/containment.ts'
import { type Spent, type Task, type TaskState, stateAt } from '../../tasks/task.ts'
import type { Reservation, ReservationAnswer, TaskStore } from '../../tasks/task-store.ts'
import { touchedBy } from '../../tasks/touched.ts'
import { checkAmount, exhaustedBudget } from '../reservation.ts'
import type { EmbeddedDatabase, Row, Value } from './database.ts'
import type { Journal } from './journal.ts'

/** Characters of what tasks hold, of which objects take some times as much: 10,000 tasks as they mostly are. */
const MAX_HELD = 20_000_000
const LEAST_HELD = 1_500
/** How much a task holds is for those to say who write registrations, and for whoever asks by constraints. */
const weightOf = ({ authority, subject }: Task): number =>
  LEAST_HELD + JSON.stringify(authority).length + JSON.stringify(subject).length

export function createTaskStore(deps: { db: EmbeddedDatabase; journal: Journal }): TaskStore {
  const { db, journal } = deps
  const find = db.prepare('SELECT * FROM tasks WHERE id = ?')
  const insert = db.prepare(`INSERT INTO tasks VALUES (${Array(19).fill('?').join(', ')})`)
  const children = db.prepare(
    'SELECT id, state, deadline, heartbeat_by FROM tasks WHERE parent = ? ORDER BY created_at, id',
  )
  const tree = db.prepare('SELECT * FROM tasks WHERE root = ? ORDER BY depth, created_at, id')
  const finish = db.prepare(
    'UPDATE tasks SET state = ?, ended_reason = ?, ended_at = ?, suspended_by = NULL WHERE id = ?',
  )
  const hold = db.prepare("UPDATE tasks SET state = 'suspended', suspended_by = ? WHERE id = ?")
  const contain = db.prepare('UPDATE tasks SET contained = ? WHERE id = ?')
  const containedIn = db.prepare('SELECT contained FROM tasks WHERE id = ?')
  const holding = db.prepare('SELECT suspended_by FROM tasks WHERE id = ?')
  const heldBy = db.prepare(
    "SELECT id, suspended_by FROM tasks WHERE state = 'suspended' AND instr(suspended_by, ?) > 0 LIMIT ?",
  )
  const holders = db.prepare("SELECT DISTINCT suspended_by FROM tasks WHERE state = 'suspended'")
  const wake = db.prepare(
    "UPDATE tasks SET state = 'active', suspended_by = NULL, heartbeat_by = ? + heartbeat_seconds WHERE id = ?",
  )
  const beat = db.prepare('UPDATE tasks SET heartbeat_by = ? + heartbeat_seconds WHERE id = ?')
  // Budgets only ever fill: carried over twice, or behind a later one, an entry changes nothing.
  const spend = db.prepare(
    'UPDATE tasks SET calls = max(calls, ?), exchanges = max(exchanges, ?), cost = max(cost, ?) WHERE id = ?',
  )
  const remember = db.prepare('INSERT INTO reservations VALUES (?, ?, ?, ?, ?)')
  const remembered = db.prepare('SELECT calls, exchanges, cost FROM reservations WHERE task = ? AND operation_id = ?')
  const dueByDeadline = db.prepare(
    "SELECT id FROM tasks WHERE state IN ('active', 'suspended') AND deadline <= ? ORDER BY deadline LIMIT ?",
  )
  const dueByHeartbeat = db.prepare(
    "SELECT id FROM tasks WHERE state = 'active' AND heartbeat_by IS NOT NULL AND heartbeat_by < ? ORDER BY heartbeat_by LIMIT ?",
  )
  const forgetReservations = db.prepare(
    "DELETE FROM reservations WHERE task IN (SELECT id FROM tasks WHERE state NOT IN ('active', 'suspended') AND deadline < ?)",
  )
  const forget = db.prepare("DELETE FROM tasks WHERE state NOT IN ('active', 'suspended') AND deadline < ?")

  /** As the database has them, with what was spent since. */
  const held = createRemembered<Task>(MAX_HELD, weightOf)
  const forgetHeld = (ids: readonly string[]): void => {
    for (const id of ids) held.drop(id)
  }
  /** What was spent and is in the journal, or on its way there, and not yet in the database. */
  const journaled = new Map<string, Spent>()
  journal.carries('spend', {
    carry: ([, id, calls, exchanges, cost]) => spend.run([Number(calls), Number(exchanges), Number(cost), id]),
    carried: ([, id, calls, exchanges, cost]) => {
      const spent = journaled.get(id)
      if (spent?.calls === calls && spent?.exchanges === exchanges && spent?.cost === cost) journaled.delete(id)
    },
  })

  function read(row: Row): Task {
    const task = toTask(row)
    const spent = journaled.get(task.id)
    return spent === undefined ? task : { ...task, spent: most(task.spent, spent) }
  }

  function get(id: string): Task | undefined {
    const known = held.get(id)
    if (known) return known
    const row = find.one([id])
    if (!row) return undefined
    const task = read(row)
    held.put(id, task)
    return task
  }

  /** The task and its ancestors, itself first; undefined where one of them is not there. */
  function line(id: string, one: (id: string) => Task | undefined = fromDatabase): readonly Task[] | undefined {
    const tasks: Task[] = []
    for (let next: string | undefined = id; next !== undefined; next = tasks.at(-1)?.parent) {
      const task = one(next)
      if (!task) return undefined
      tasks.push(task)
    }
    return tasks
  }
  /** Within a transaction: what steps before have written is seen, and nothing is held that may yet be undone. */
  const fromDatabase = (id: string): Task | undefined => {
    const row = find.one([id])
    return row && read(row)
  }

  function open(task: Task, now: number): 'opened' | 'parent_not_active' | 'exists' {
    if (find.one([task.id])) return 'exists'
    if (task.parent !== undefined) {
      const above = line(task.parent)
      if (!above || above.some((ancestor) => stateAt(ancestor, now) !== 'active')) return 'parent_not_active'
    }
    const parent = task.parent === undefined ? undefined : containedIn.one([task.parent])
    insert.run(toValues(task, parent?.['contained'] == null ? null : String(parent['contained'])))
    return 'opened'
  }

  /** The task and every descendant that has not ended, parents before children. */
  function liveFrom(id: string, lives: (row: Row) => boolean): readonly string[] {
    const named = find.one([id])
    if (!named || !lives(named)) return []
    const live: string[] = []
    for (let level = [id]; level.length > 0; ) {
      live.push(...level)
      // An ended child has no live descendants: they ended with it.
      level = level.flatMap((parent) =>
        children
          .all([parent])
          .filter(lives)
          .map((child) => String(child['id'])),
      )
    }
    return live
  }

  function end(id: string, state: TaskState, reason: string, at: number): readonly string[] {
    const ended = liveFrom(id, isLive)
    for (const task of ended) finish.run([state, reason, at, task])
    return ended
  }

  const livesAt = (now: number) => (row: Row) => isLive(row) && stateAt(toMoving(row), now) !== 'expired'

  function takeFrom(id: string, containment: Containment, now: number): readonly string[] {
    const tasks = liveFrom(id, livesAt(now))
    for (const task of tasks) {
      const before = toContained(containedIn.one([task])?.['contained'])
      if (!before.some(({ by }) => by === containment.by)) contain.run([JSON.stringify([...before, containment]), task])
    }
    return tasks
  }

  function suspend(id: string, by: string, now: number): readonly string[] {
    // One that missed its heartbeat has ended, also where nobody has swept yet: it must not wake again.
    const suspended = liveFrom(id, livesAt(now))
    for (const task of suspended) {
      const others = toHolders(holding.one([task])?.['suspended_by'])
      if (!others.includes(by)) hold.run([JSON.stringify([...others, by]), task])
    }
    return suspended
  }

  /** In parts: one transaction may not hold up everybody else. */
  function wakeSome(
    by: string,
    now: number,
  ): { readonly released: readonly string[]; readonly woken: readonly string[] } {
    const woken: string[] = []
    const rows = heldBy.all([JSON.stringify(by), WOKEN_AT_ONCE])
    for (const row of rows) {
      const id = String(row['id'])
      const others = toHolders(row['suspended_by']).filter((each) => each !== by)
      if (others.length > 0) hold.run([JSON.stringify(others), id])
      else {
        wake.run([now, id])
        woken.push(id)
      }
    }
    return { released: rows.map((row) => String(row['id'])), woken }
  }

  /** Why nothing can be reserved. */
  function refusal(
    tasks: readonly Task[] | undefined,
    amount: Reservation,
    now: number,
  ): Exclude<ReservationAnswer, { outcome: 'reserved' }> | undefined {
    if (!tasks) return { outcome: 'not_active', state: 'unknown' }
    for (const task of tasks) {
      const state = stateAt(task, now)
      if (state !== 'active') return { outcome: 'not_active', state }
    }
    for (const task of tasks) {
      const budget = exhaustedBudget(task, amount)
      if (budget) return { outcome: 'exhausted', of: task.id, budget }
    }
    return undefined
  }

  /** With an operation id: the row that makes the retry free, and the amounts, in one transaction. */
  function reserveOnce(id: string, operationId: string, amount: Reservation, now: number): ReservationAnswer {
    const first = remembered.one([id, operationId])
    if (first) return { outcome: 'reserved', spent: toSpent(first) }
    const tasks = line(id)
    const no = refusal(tasks, amount, now)
    if (no) return no
    for (const { id: each, spent } of tasks!) {
      const { calls, exchanges, cost } = plus(spent, amount)
      spend.run([calls, exchanges, cost, each])
    }
    const after = plus(tasks![0]!.spent, amount)
    remember.run([id, operationId, after.calls, after.exchanges, after.cost])
    return { outcome: 'reserved', spent: after }
  }

  /** Without: in memory at once, and in the journal while its caller goes on. */
  function reserveNow(id: string, amount: Reservation, now: number): ReservationAnswer {
    const tasks = line(id, get)
    const no = refusal(tasks, amount, now)
    if (no) return no
    const writes = tasks!.map((task) => {
      const spent = plus(task.spent, amount)
      held.put(task.id, { ...task, spent })
      journaled.set(task.id, spent)
      return journal.append(['spend', task.id, spent.calls, spent.exchanges, spent.cost])
    })
    // Where it could not be written it stays spent: what is on disk is not known, and a budget is never overspent.
    const durable = writes.length === 1 ? writes[0]! : Promise.all(writes).then(() => undefined)
    durable.catch(() => undefined)
    return { outcome: 'reserved', spent: plus(tasks![0]!.spent, amount), durable }
  }

  return {
    open: (task, now) => db.write(() => open(task, now)),
    get: async (id) => {
      db.assertOpen()
      return get(id)
    },
    tree: async (root) => tree.all([root]).map(read),
    list: async (filter) => {
      const touched = filter.touchedBy
      const wanted: [string, Value | undefined][] = [
        ['agent = ?', filter.agent],
        ["json_extract(fixed, '$.agentSpiffeId') = ?", filter.agentSpiffeId],
        ['subject = ?', filter.subject],
        ['state = ?', filter.state],
        ["instr(coalesce(suspended_by, ''), ?) = 0", filter.notHeldBy && JSON.stringify(filter.notHeldBy)],
        ["instr(coalesce(contained, ''), ?) = 0", filter.notContainedBy && JSON.stringify(filter.notContainedBy)],
        ["instr(coalesce(suspended_by, '') || coalesce(contained, '') || coalesce(ended_reason, ''), ?) > 0", touched],
      ]
      const given = wanted.filter((pair): pair is [string, Value] => pair[1] !== undefined)
      const where = given.length === 0 ? '' : `WHERE ${given.map(([condition]) => condition).join(' AND ')}`
      return db
        .prepare(`SELECT * FROM tasks ${where} ORDER BY created_at DESC, id DESC LIMIT ?`)
        .all([...given.map(([, value]) => value), filter.limit])
        .map(read)
        .filter((task) => touched === undefined || touchedBy(task, touched).length > 0)
    },
    end: (id, state, reason, at) =>
      // Those that end by themselves wait: where nobody can write, nobody keeps a task alive, and they are many.
      db.write(() => end(id, state, reason, at), { urgent: state !== 'expired', committed: forgetHeld }),
    contain: (id, containment, now) =>
      db.write(() => takeFrom(id, containment, now), { urgent: true, committed: forgetHeld }),
    suspend: (id, by, now) => db.write(() => suspend(id, by, now), { urgent: true, committed: forgetHeld }),
    wake: async (by, now) => {
      const all: string[] = []
      for (;;) {
        const { woken, released } = await db.write(() => wakeSome(by, now), {
          committed: (done) => forgetHeld(done.released),
        })
        all.push(...woken)
        if (released.length < WOKEN_AT_ONCE) return all
      }
    },
    holders: async () => [...new Set(holders.all([]).flatMap((row) => toHolders(row['suspended_by'])))],
    beat: (id, now) =>
      db.write(
        () => {
          const row = find.one([id])
          if (!row || stateAt(toTask(row), now) !== 'active') return false
          beat.run([now, id])
          return true
        },
        { committed: () => held.drop(id) },
      ),
    reserve: async (id, amount, now) => {
      checkAmount(amount)
      const { operationId } = amount
      if (operationId === undefined) {
        db.assertOpen()
        return reserveNow(id, amount, now)
      }
      // Its ancestors are charged too, and are as the database has them from then on.
      const committed = () => forgetHeld((line(id) ?? []).map((task) => task.id))
      return db.write(() => reserveOnce(id, operationId, amount, now), { committed })
    },
    due: async (now, limit) => {
      const rows = [...dueByDeadline.all([now, limit]), ...dueByHeartbeat.all([now, limit])]
      return [...new Set(rows.map((row) => String(row['id'])))].slice(0, limit)
    },
    prune: async (before) => {
      await db.write(() => {
        forgetReservations.run([before])
        forget.run([before])
      })
      held.clear()
    },
  }
}

const WOKEN_AT_ONCE = 500

const toHolders = (column: unknown): readonly string[] =>
  column == null ? [] : (JSON.parse(String(column)) as readonly string[])

const plus = (spent: Spent, { calls, exchanges, cost }: Reservation): Spent => ({
  calls: spent.calls + calls,
  exchanges: spent.exchanges + exchanges,
  cost: spent.cost + cost,
})

const most = (a: Spent, b: Spent): Spent => ({
  calls: Math.max(a.calls, b.calls),
  exchanges: Math.max(a.exchanges, b.exchanges),
  cost: Math.max(a.cost, b.cost),
})

const isLive = (row: Row): boolean => row['state'] === 'active' || row['state'] === 'suspended'

const toSpent = (row: Row) => ({
  calls: Number(row['calls']),
  exchanges: Number(row['exchanges']),
  cost: Number(row['cost']),
})

/** What never changes after opening and is never searched for. */
type Fixed = Pick<Task, 'subject' | 'agentSpiffeId' | 'purpose' | 'context' | 'budget' | 'authority'>

function toValues(task: Task, contained: string | null): readonly Value[] {
  const { subject, agentSpiffeId, purpose, context, budget, authority } = task
  const fixed: Fixed = { subject, agentSpiffeId, purpose, context, budget, authority }
  return [
    task.id,
    task.parent ?? null,
    task.root,
    task.depth,
    task.agent,
    subject.id,
    task.state,
    task.createdAt,
    task.deadline,
    task.heartbeatSeconds ?? null,
    task.heartbeatBy ?? null,
    task.endedAt ?? null,
    task.endedReason ?? null,
    task.spent.calls,
    task.spent.exchanges,
    task.spent.cost,
    JSON.stringify(fixed),
    null, // a task is opened active
    contained,
  ]
}

const toContained = (column: unknown): readonly Containment[] =>
  column == null ? [] : (JSON.parse(String(column)) as readonly Containment[])

const toMoving = (row: Row): Parameters<typeof stateAt>[0] => ({
  state: row['state'] as TaskState,
  deadline: Number(row['deadline']),
  ...(row['heartbeat_by'] == null ? {} : { heartbeatBy: Number(row['heartbeat_by']) }),
})

function toTask(row: Row): Task {
  const optional = <K extends string>(name: K, column: string): { [N in K]?: number } =>
    row[column] == null ? {} : ({ [name]: Number(row[column]) } as { [N in K]: number })
  const fixed = JSON.parse(String(row['fixed'])) as Fixed
  const contained = toContained(row['contained'])
  return {
    id: String(row['id']),
    ...(row['parent'] == null ? {} : { parent: String(row['parent']) }),
    root: String(row['root']),
    depth: Number(row['depth']),
    agent: String(row['agent']),
    ...fixed,
    ...(contained.length === 0 ? {} : { contained, authority: leftOf(fixed.authority, contained) }),
    state: row['state'] as TaskState,
    createdAt: Number(row['created_at']),
    deadline: Number(row['deadline']),
    ...optional('heartbeatSeconds', 'heartbeat_seconds'),
    ...optional('heartbeatBy', 'heartbeat_by'),
    ...(row['suspended_by'] == null ? {} : { suspendedBy: toHolders(row['suspended_by']) }),
    ...optional('endedAt', 'ended_at'),
    ...(row['ended_reason'] == null ? {} : { endedReason: String(row['ended_reason']) }),
    spent: toSpent(row),
  }
}
