/** A task as its row in the embedded database, and back. */
import { type Containment, leftOf } from '../../tasks/containment.ts'
import type { Spent, stateAt, Task, TaskState } from '../../tasks/task.ts'
import type { Reservation } from '../../tasks/task-store.ts'
import type { Row, Value } from './database.ts'

export const toHolders = (column: unknown): readonly string[] =>
  column == null ? [] : (JSON.parse(String(column)) as readonly string[])

export const plus = (spent: Spent, { calls, exchanges, cost }: Reservation): Spent => ({
  calls: spent.calls + calls,
  exchanges: spent.exchanges + exchanges,
  cost: spent.cost + cost,
})

export const most = (a: Spent, b: Spent): Spent => ({
  calls: Math.max(a.calls, b.calls),
  exchanges: Math.max(a.exchanges, b.exchanges),
  cost: Math.max(a.cost, b.cost),
})

export const isLive = (row: Row): boolean => row['state'] === 'active' || row['state'] === 'suspended'

export const toSpent = (row: Row) => ({
  calls: Number(row['calls']),
  exchanges: Number(row['exchanges']),
  cost: Number(row['cost']),
})

/** What never changes after opening and is never searched for. */
type Fixed = Pick<Task, 'subject' | 'agentSpiffeId' | 'release' | 'purpose' | 'context' | 'budget' | 'authority'>

export function toValues(task: Task, contained: string | null): readonly Value[] {
  const { subject, agentSpiffeId, release, purpose, context, budget, authority } = task
  const said = release === undefined ? {} : { release }
  const fixed: Fixed = { subject, agentSpiffeId, ...said, purpose, context, budget, authority }
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

export const toContained = (column: unknown): readonly Containment[] =>
  column == null ? [] : (JSON.parse(String(column)) as readonly Containment[])

export const toMoving = (row: Row): Parameters<typeof stateAt>[0] => ({
  state: row['state'] as TaskState,
  deadline: Number(row['deadline']),
  ...(row['heartbeat_by'] == null ? {} : { heartbeatBy: Number(row['heartbeat_by']) }),
})

export function toTask(row: Row): Task {
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
