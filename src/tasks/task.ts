/** One piece of work by one agent for one subject (or for itself), and its place in the tree. */
import type { Grant } from '@errand/verifier/claims.ts'
import type { Containment } from './containment.ts'

export const TASK_STATES = ['active', 'suspended', 'completed', 'cancelled', 'revoked', 'expired'] as const
export type TaskState = (typeof TASK_STATES)[number]
export const ENVIRONMENTS = ['production', 'staging', 'development'] as const
export const CLASSIFICATIONS = ['public', 'internal', 'confidential', 'restricted'] as const

export interface TaskContext {
  readonly environment: (typeof ENVIRONMENTS)[number]
  readonly dataClassification: (typeof CLASSIFICATIONS)[number]
}

/** Integers; absent is unlimited. What a child spends is charged to its ancestors too. */
export interface Budget {
  readonly maxCalls?: number
  readonly maxExchanges?: number
  readonly maxCost?: number
  readonly maxDurationSeconds?: number
}

export interface Spent {
  readonly calls: number
  readonly exchanges: number
  readonly cost: number
}

/** What the user's token said when the task was opened: later exchanges of the task are judged by it. */
export interface SubjectFacts {
  /** `<configured issuer name>|<its sub>`; for an autonomous task the agent's SPIFFE id. */
  readonly id: string
  readonly issuer: string
  readonly groups: readonly string[]
  /** Further string, number, boolean and string-list claims that the issuer's configuration names. */
  readonly claims: { readonly [name: string]: string | number | boolean | readonly string[] }
  readonly autonomous: boolean
}

export interface Task {
  /** `task_…` */
  readonly id: string
  readonly parent?: string
  readonly root: string
  /** 1 for a root task. */
  readonly depth: number
  readonly subject: SubjectFacts
  /** client_id, and its SPIFFE id at the time. */
  readonly agent: string
  readonly agentSpiffeId: string
  /** The release that opened it, where it was measured or said. */
  readonly release?: string
  readonly purpose: string
  readonly context: TaskContext
  readonly budget: Budget
  /** What it may do at most: without what was taken. */
  readonly authority: readonly Grant[]
  readonly contained?: readonly Containment[]
  readonly state: TaskState
  /** Unix seconds. */
  readonly createdAt: number
  /** Absolute. */
  readonly deadline: number
  readonly heartbeatSeconds?: number
  /** Unix seconds by which the next heartbeat must come. */
  readonly heartbeatBy?: number
  /** The revocations that hold it while it is suspended. */
  readonly suspendedBy?: readonly string[]
  readonly endedAt?: number
  readonly endedReason?: string
  readonly spent: Spent
}

/**
 * The state that holds at `now`: a deadline or a missed heartbeat ends a task by itself, whether or not the sweeper
 * has been there.
 */
export function stateAt(task: Pick<Task, 'state' | 'deadline' | 'heartbeatBy'>, now: number): TaskState {
  if (task.state !== 'active' && task.state !== 'suspended') return task.state
  if (now >= task.deadline) return 'expired'
  if (task.state === 'active' && task.heartbeatBy !== undefined && now > task.heartbeatBy) return 'expired'
  return task.state
}
