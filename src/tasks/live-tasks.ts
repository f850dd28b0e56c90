/** The tasks that live, found by whom they are for: what a revocation of an agent or a subject would end. */
import type { Task } from './task.ts'

export interface LiveTask {
  readonly id: string
  readonly agent: string
  /** `<configured issuer name>|<its sub>`; for an autonomous task the agent's SPIFFE id. */
  readonly subject: string
}

/** A conjunction; what is absent is any. */
export interface LiveTaskFilter {
  readonly agent?: string
  readonly agentSpiffeId?: string
  readonly subject?: string
}

export interface LiveTasks {
  /**
   * What is active or suspended at `now` and matches, and everything that lives below it, each once, at most `limit`.
   * What it costs grows with the tasks that live, not with those that have ended.
   */
  matching(filter: LiveTaskFilter, now: number, limit: number): Promise<readonly LiveTask[]>
}

/** Of a task as it is held. */
export const liveTaskOf = ({ id, agent, subject }: Pick<Task, 'id' | 'agent' | 'subject'>): LiveTask => ({
  id,
  agent,
  subject: subject.id,
})
