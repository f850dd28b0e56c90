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
  /** Trust domain of the agent. */
  readonly domain?: string
  readonly release?: string
  readonly subject?: string
}

export interface LiveTasks {
  /**
   * What is active or suspended at `now` and matches, and everything that lives below it, each once, at most `limit`.
   * What it costs grows with the tasks that live, not with those that have ended.
   */
  matching(filter: LiveTaskFilter, now: number, limit: number): Promise<readonly LiveTask[]>
}

/** A live task that matches by itself (`named`), or may because one above it does. */
export interface Candidate extends LiveTask {
  readonly parent?: string
  readonly named: boolean
}

/** Those that are named and what is below them, each once. */
export function withBelow(candidates: readonly Candidate[], limit: number): readonly LiveTask[] {
  const below = new Map<string, Candidate[]>()
  for (const each of candidates) {
    if (each.parent === undefined) continue
    const beside = below.get(each.parent)
    if (beside) beside.push(each)
    else below.set(each.parent, [each])
  }
  const found = new Map<string, LiveTask>()
  for (let level = candidates.filter(({ named }) => named); level.length > 0; ) {
    const fresh = level.filter(({ id }) => !found.has(id))
    for (const { id, agent, subject } of fresh) found.set(id, { id, agent, subject })
    level = below.size === 0 ? [] : fresh.flatMap(({ id }) => below.get(id) ?? [])
  }
  return [...found.values()].slice(0, limit)
}

/** How SPIFFE ids of a trust domain begin. */
export const idsOf = (domain: string): string => `spiffe://${domain}/`

/** Of a task as it is held. */
export const liveTaskOf = ({ id, agent, subject }: Pick<Task, 'id' | 'agent' | 'subject'>): LiveTask => ({
  id,
  agent,
  subject: subject.id,
})
