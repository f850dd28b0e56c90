/** The tasks that a match names as a whole: ended, suspended, contained. Where it speaks of some tokens only, there are none. */
import type { HopFacts } from '@errand/verifier/shapes.ts'
import type { Containment } from '../tasks/containment.ts'
import type { Task } from '../tasks/task.ts'
import type { TaskStore } from '../tasks/task-store.ts'

type List = Parameters<TaskStore['list']>[0]
type Filter = { readonly below: string } | Omit<List, 'state' | 'limit'>

/** How many are asked for, and changed beside one another: one sync serves them. */
const AT_ONCE = 500
const LIVE = ['active', 'suspended'] as const

/** Undefined where the match is not about whole tasks. */
export function filterOf(match: HopFacts): Filter | undefined {
  const { task, root, client_id, agent, sub, domain, release, ...rest } = match
  if (Object.keys(rest).length > 0) return undefined
  const below = task ?? root
  if (below !== undefined) return Object.keys(match).length === 1 ? { below } : undefined
  return {
    ...(client_id === undefined ? {} : { agent: client_id }),
    ...(agent === undefined ? {} : { agentSpiffeId: agent }),
    ...(sub === undefined ? {} : { subject: sub }),
    ...(domain === undefined ? {} : { domain }),
    ...(release === undefined ? {} : { release }),
  }
}

/** Ends them with all below them. Answers the ids that this call ended. */
export async function endMatching(
  tasks: TaskStore,
  match: HopFacts,
  reason: string,
  now: number,
): Promise<readonly string[]> {
  const named = filterOf(match)
  if (!named) return []
  if ('below' in named) return tasks.end(named.below, 'revoked', reason, now)
  return each(tasks, { ...named }, ({ id }) => tasks.end(id, 'revoked', reason, now))
}

/** Ends what has ended by itself and nobody has swept yet: it cannot be changed any more, and would be found for ever. */
export type Expire = (task: string, reason: string) => Promise<unknown>

/** Suspends them with all below them for the revocation `by`. Answers the ids that it holds. */
export async function suspendMatching(
  tasks: TaskStore,
  match: HopFacts,
  by: string,
  now: number,
  expire: Expire,
): Promise<readonly string[]> {
  const named = filterOf(match)
  if (!named) return []
  if ('below' in named) return tasks.suspend(named.below, by, now)
  return each(tasks, { ...named, notHeldBy: by }, async (task) => {
    const held = await tasks.suspend(task.id, by, now)
    if (held.length === 0) await expire(task.id, endedItself(task, now))
    return held
  })
}

/** Takes it from them and from all below them. Answers the ids that it is taken from. */
export async function containMatching(
  tasks: TaskStore,
  match: HopFacts,
  containment: Containment,
  now: number,
  expire: Expire,
): Promise<readonly string[]> {
  const named = filterOf(match)
  if (!named) return []
  if ('below' in named) return tasks.contain(named.below, containment, now)
  return each(tasks, { ...named, notContainedBy: containment.by }, async (task) => {
    const taken = await tasks.contain(task.id, containment, now)
    if (taken.length === 0) await expire(task.id, endedItself(task, now))
    return taken
  })
}

/** Whether it names tasks as a whole: by task, root, or agent, subject, trust domain and release that opened them. */
export const namesTasks = (match: HopFacts): boolean => Object.keys(match).length > 0 && filterOf(match) !== undefined

export const endedItself = ({ deadline }: Task, now: number): string =>
  now >= deadline ? 'deadline passed' : 'heartbeat missed'

/** Does it to all that are live, until there are no more. */
async function each(
  tasks: TaskStore,
  filter: Omit<List, 'state' | 'limit'>,
  step: (task: Task) => Promise<readonly string[]>,
): Promise<readonly string[]> {
  const done = new Set<string>()
  for (const state of LIVE) {
    for (;;) {
      const found = await tasks.list({ ...filter, state, limit: AT_ONCE })
      if (found.length === 0) break
      for (const ids of await Promise.all(found.map(step))) for (const id of ids) done.add(id)
    }
  }
  return [...done]
}
