/**
 * The task tree in the embedded database: one row per task, one per remembered operation, none per token. Tasks that
 * are worked on are held in memory as the database has them, and what their tokens cost is journaled: this process
 * alone has the folder.
 */
import { createRemembered } from '../../attest/remembered.ts'
import { idsOf } from '../../tasks/live-tasks.ts'
import { type Spent, type Task, stateAt } from '../../tasks/task.ts'
import type { Reservation, ReservationAnswer, TaskStore } from '../../tasks/task-store.ts'
import { touchedBy } from '../../tasks/touched.ts'
import { checkAmount, exhaustedBudget } from '../reservation.ts'
import type { EmbeddedDatabase, Row, Value } from './database.ts'
import type { Journal } from './journal.ts'
import { most, plus, toSpent, toTask, toValues } from './task-rows.ts'
import { createTaskStates, WOKEN_AT_ONCE } from './task-states.ts'

/** Characters of what tasks hold, of which objects take some times as much: 10,000 tasks as they mostly are. */
const MAX_HELD = 20_000_000
const LEAST_HELD = 1_500
/** How much a task holds is for those to say who write registrations, and for whoever asks by constraints. */
const weightOf = ({ authority, subject }: Task): number =>
  LEAST_HELD + JSON.stringify(authority).length + JSON.stringify(subject).length

export function createTaskStore(deps: { db: EmbeddedDatabase; journal: Journal }): TaskStore {
  const { db, journal } = deps
  const find = db.prepare('SELECT * FROM tasks WHERE id = ?')
  const states = createTaskStates(db)
  const containedIn = db.prepare('SELECT contained FROM tasks WHERE id = ?')
  const insert = db.prepare(`INSERT INTO tasks VALUES (${Array(19).fill('?').join(', ')})`)
  const tree = db.prepare('SELECT * FROM tasks WHERE root = ? ORDER BY depth, created_at, id')
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
        ["instr(json_extract(fixed, '$.agentSpiffeId'), ?) = 1", filter.domain && idsOf(filter.domain)],
        ["json_extract(fixed, '$.release') = ?", filter.release],
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
      db.write(() => states.end(id, state, reason, at), { urgent: state !== 'expired', committed: forgetHeld }),
    contain: (id, containment, now) =>
      db.write(() => states.takeFrom(id, containment, now), { urgent: true, committed: forgetHeld }),
    suspend: (id, by, now) => db.write(() => states.suspend(id, by, now), { urgent: true, committed: forgetHeld }),
    wake: async (by, now) => {
      const all: string[] = []
      for (;;) {
        const { woken, released } = await db.write(() => states.wakeSome(by, now), {
          committed: (done) => forgetHeld(done.released),
        })
        all.push(...woken)
        if (released.length < WOKEN_AT_ONCE) return all
      }
    },
    holders: async () => states.holders(),
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
