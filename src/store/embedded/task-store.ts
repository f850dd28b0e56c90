/** The task tree in the embedded database: one row per task, one per remembered operation, none per token. */
import { type Task, type TaskState, stateAt } from '../../tasks/task.ts'
import type { Reservation, ReservationAnswer, TaskStore } from '../../tasks/task-store.ts'
import { checkAmount, exhaustedBudget } from '../reservation.ts'
import type { EmbeddedDatabase, Row, Value } from './database.ts'

export function createTaskStore(deps: { db: EmbeddedDatabase }): TaskStore {
  const { db } = deps
  const find = db.prepare('SELECT * FROM tasks WHERE id = ?')
  const insert = db.prepare(`INSERT INTO tasks VALUES (${Array(17).fill('?').join(', ')})`)
  const children = db.prepare('SELECT id, state FROM tasks WHERE parent = ? ORDER BY created_at, id')
  const tree = db.prepare('SELECT * FROM tasks WHERE root = ? ORDER BY depth, created_at, id')
  const finish = db.prepare('UPDATE tasks SET state = ?, ended_reason = ?, ended_at = ? WHERE id = ?')
  const beat = db.prepare('UPDATE tasks SET heartbeat_by = ? + heartbeat_seconds WHERE id = ?')
  const spend = db.prepare(
    'UPDATE tasks SET calls = calls + ?, exchanges = exchanges + ?, cost = cost + ? WHERE id = ?',
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

  /** The task and its ancestors, itself first; undefined where one of them is not there. */
  function line(id: string): readonly Task[] | undefined {
    const tasks: Task[] = []
    for (let next: string | undefined = id; next !== undefined; next = tasks.at(-1)?.parent) {
      const row = find.one([next])
      if (!row) return undefined
      tasks.push(toTask(row))
    }
    return tasks
  }

  function open(task: Task, now: number): 'opened' | 'parent_not_active' | 'exists' {
    if (find.one([task.id])) return 'exists'
    if (task.parent !== undefined) {
      const above = line(task.parent)
      if (!above || above.some((ancestor) => stateAt(ancestor, now) !== 'active')) return 'parent_not_active'
    }
    insert.run(toValues(task))
    return 'opened'
  }

  function end(id: string, state: TaskState, reason: string, at: number): readonly string[] {
    const named = find.one([id])
    if (!named || !isLive(named)) return []
    const ended: string[] = []
    for (let level = [id]; level.length > 0; ) {
      ended.push(...level)
      // An ended child has no live descendants: they ended with it.
      level = level.flatMap((parent) =>
        children
          .all([parent])
          .filter(isLive)
          .map((child) => String(child['id'])),
      )
    }
    for (const task of ended) finish.run([state, reason, at, task])
    return ended
  }

  function reserve(id: string, amount: Reservation, now: number): ReservationAnswer {
    if (amount.operationId !== undefined) {
      const first = remembered.one([id, amount.operationId])
      if (first) return { outcome: 'reserved', spent: toSpent(first) }
    }
    const tasks = line(id)
    if (!tasks) return { outcome: 'not_active', state: 'unknown' }
    for (const task of tasks) {
      const state = stateAt(task, now)
      if (state !== 'active') return { outcome: 'not_active', state }
    }
    for (const task of tasks) {
      const budget = exhaustedBudget(task, amount)
      if (budget) return { outcome: 'exhausted', of: task.id, budget }
    }
    for (const task of tasks) spend.run([amount.calls, amount.exchanges, amount.cost, task.id])
    const { spent } = tasks[0]!
    const after = {
      calls: spent.calls + amount.calls,
      exchanges: spent.exchanges + amount.exchanges,
      cost: spent.cost + amount.cost,
    }
    if (amount.operationId !== undefined) {
      remember.run([id, amount.operationId, after.calls, after.exchanges, after.cost])
    }
    return { outcome: 'reserved', spent: after }
  }

  return {
    open: (task, now) => db.write(() => open(task, now)),
    get: async (id) => {
      const row = find.one([id])
      return row && toTask(row)
    },
    tree: async (root) => tree.all([root]).map(toTask),
    list: async (filter) => {
      const wanted: [string, Value | undefined][] = [
        ['agent', filter.agent],
        ["json_extract(fixed, '$.agentSpiffeId')", filter.agentSpiffeId],
        ['subject', filter.subject],
        ['state', filter.state],
      ]
      const given = wanted.filter((pair): pair is [string, Value] => pair[1] !== undefined)
      const where = given.length === 0 ? '' : `WHERE ${given.map(([column]) => `${column} = ?`).join(' AND ')}`
      return db
        .prepare(`SELECT * FROM tasks ${where} ORDER BY created_at DESC, id DESC LIMIT ?`)
        .all([...given.map(([, value]) => value), filter.limit])
        .map(toTask)
    },
    end: (id, state, reason, at) => db.write(() => end(id, state, reason, at)),
    beat: (id, now) =>
      db.write(() => {
        const row = find.one([id])
        if (!row || stateAt(toTask(row), now) !== 'active') return false
        beat.run([now, id])
        return true
      }),
    reserve: async (id, amount, now) => {
      checkAmount(amount)
      return db.write(() => reserve(id, amount, now))
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
    },
  }
}

const isLive = (row: Row): boolean => row['state'] === 'active' || row['state'] === 'suspended'

const toSpent = (row: Row) => ({
  calls: Number(row['calls']),
  exchanges: Number(row['exchanges']),
  cost: Number(row['cost']),
})

/** What never changes after opening and is never searched for. */
type Fixed = Pick<Task, 'subject' | 'agentSpiffeId' | 'purpose' | 'context' | 'budget' | 'authority'>

function toValues(task: Task): readonly Value[] {
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
  ]
}

function toTask(row: Row): Task {
  const optional = <K extends string>(name: K, column: string): { [N in K]?: number } =>
    row[column] == null ? {} : ({ [name]: Number(row[column]) } as { [N in K]: number })
  return {
    id: String(row['id']),
    ...(row['parent'] == null ? {} : { parent: String(row['parent']) }),
    root: String(row['root']),
    depth: Number(row['depth']),
    agent: String(row['agent']),
    ...(JSON.parse(String(row['fixed'])) as Fixed),
    state: row['state'] as TaskState,
    createdAt: Number(row['created_at']),
    deadline: Number(row['deadline']),
    ...optional('heartbeatSeconds', 'heartbeat_seconds'),
    ...optional('heartbeatBy', 'heartbeat_by'),
    ...optional('endedAt', 'ended_at'),
    ...(row['ended_reason'] == null ? {} : { endedReason: String(row['ended_reason']) }),
    spent: toSpent(row),
  }
}
