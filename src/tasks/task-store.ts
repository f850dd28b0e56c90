/** Where tasks rest. Every step is atomic, also across processes; nothing that was acknowledged is lost. */
import type { Containment } from './containment.ts'
import type { Spent, Task, TaskState } from './task.ts'

export interface Reservation {
  readonly calls: number
  readonly exchanges: number
  readonly cost: number
  /**
   * The same operation id again, on the same task, is answered as the first time it was reserved and reserves nothing
   * more. Absent is not remembered: issuing has its own memory (`Idempotency-Key`) and leaves no row per token.
   */
  readonly operationId?: string
}

export type ReservationAnswer =
  | {
      readonly outcome: 'reserved'
      readonly spent: Spent
      /** Where it is decided and not yet durable: nothing leaves before this resolves. */
      readonly durable?: Promise<void>
    }
  /** `of`: the task (itself or an ancestor) whose budget does not suffice; nothing was reserved anywhere. */
  | { readonly outcome: 'exhausted'; readonly of: string; readonly budget: 'calls' | 'exchanges' | 'cost' }
  | { readonly outcome: 'not_active'; readonly state: TaskState | 'unknown' }

export interface TaskStore {
  /** What was taken from its parent is taken from it too. `parent_not_active` where the parent (at `now`) is not active: no child of a task that has ended. `exists` where the id is taken. */
  open(task: Task, now: number): Promise<'opened' | 'parent_not_active' | 'exists'>
  get(id: string): Promise<Task | undefined>
  /** Every task of the tree whose root is `root`, parents before children. */
  tree(root: string): Promise<readonly Task[]>
  /** Newest first. */
  list(filter: {
    readonly agent?: string
    readonly agentSpiffeId?: string
    /** Trust domain of the agent. */
    readonly domain?: string
    readonly release?: string
    readonly subject?: string
    readonly state?: TaskState
    /** Only those that this revocation does not hold. */
    readonly notHeldBy?: string
    /** Only those from which this revocation took nothing. */
    readonly notContainedBy?: string
    /** Only those that this revocation ended, holds, or took something from. */
    readonly touchedBy?: string
    readonly limit: number
  }): Promise<readonly Task[]>
  /**
   * Ends the task and every descendant that has not ended, in one step: the named one as `state`, descendants too.
   * Answers the ids that this call ended, parents before children (empty where it had ended before).
   */
  end(
    id: string,
    state: 'completed' | 'cancelled' | 'revoked' | 'expired',
    reason: string,
    at: number,
  ): Promise<readonly string[]>
  /**
   * Takes it from the task and from every descendant that has not ended at `now`, in one step and for good; once for
   * each `by`. Answers the ids that it is taken from, parents before children.
   */
  contain(id: string, containment: Containment, now: number): Promise<readonly string[]>
  /**
   * Suspends the task and every descendant that has not ended at `now`, in one step, for the revocation `by`; what others
   * hold already is held by it too. Answers the ids that it holds there, parents before children.
   */
  suspend(id: string, by: string, now: number): Promise<readonly string[]>
  /**
   * Lets go of what `by` holds. What nothing else holds is active again, its heartbeat counted from `now`. Answers the
   * ids that are active again; what this call did not reach before it failed, the next one does.
   */
  wake(by: string, now: number): Promise<readonly string[]>
  /** The revocations that hold a task. */
  holders(): Promise<readonly string[]>
  /** Moves `heartbeatBy` to `now + heartbeatSeconds`. False where it is not active at `now`. */
  beat(id: string, now: number): Promise<boolean>
  /**
   * Reserves from the budget of the task and of every ancestor, all or nothing: parallel calls never overspend.
   * The task and all ancestors must be active at `now`.
   */
  reserve(id: string, amount: Reservation, now: number): Promise<ReservationAnswer>
  /** Ids of tasks stored as active or suspended whose deadline or heartbeat has passed at `now`. */
  due(now: number, limit: number): Promise<readonly string[]>
  /** Forgets ended tasks and operation ids whose deadline lies before `before` (Unix seconds). */
  prune(before: number): Promise<void>
}
