/** The tasks that a match names as a whole: found, ended, suspended. Where it speaks of some tokens only, there are none. */
import type { HopFacts } from '@errand/verifier/shapes.ts'
import { stateAt, type Task } from '../tasks/task.ts'
import type { TaskStore } from '../tasks/task-store.ts'

type List = Parameters<TaskStore['list']>[0]
type Filter = { readonly below: string } | Omit<List, 'state' | 'limit'>

/** How many are asked for, and changed beside one another: one sync serves them. */
const AT_ONCE = 500
const LIVE = ['active', 'suspended'] as const

function filterOf(match: HopFacts): Filter | undefined {
  const { task, root, client_id, agent, sub, ...rest } = match
  if (Object.keys(rest).length > 0) return undefined
  const below = task ?? root
  if (below !== undefined) return Object.keys(match).length === 1 ? { below } : undefined
  return {
    ...(client_id === undefined ? {} : { agent: client_id }),
    ...(agent === undefined ? {} : { agentSpiffeId: agent }),
    ...(sub === undefined ? {} : { subject: sub }),
  }
}

/** Ids of those that are active or suspended at `now`, 500 at most; undefined where the match is not about whole tasks. */
export async function matchingTasks(
  tasks: TaskStore,
  match: HopFacts,
  now: number,
): Promise<readonly string[] | undefined> {
  const named = filterOf(match)
  if (!named) return undefined
  if ('below' in named) return liveBelow(tasks, named.below, now)
  const found: Task[] = []
  for (const state of LIVE) found.push(...(await tasks.list({ ...named, state, limit: AT_ONCE })))
  return found.slice(0, AT_ONCE).map(({ id }) => id)
}

async function liveBelow(tasks: TaskStore, id: string, now: number): Promise<readonly string[]> {
  const top = await tasks.get(id)
  if (!top) return []
  const below = new Set([top.id])
  const tree = await tasks.tree(top.root) // parents come before their children
  for (const each of tree) if (each.parent !== undefined && below.has(each.parent)) below.add(each.id)
  const live: readonly string[] = LIVE
  return tree.filter((each) => below.has(each.id) && live.includes(stateAt(each, now))).map((each) => each.id)
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

/** Suspends them with all below them for the revocation `by`. Answers the ids that it holds. */
export async function suspendMatching(
  tasks: TaskStore,
  match: HopFacts,
  by: string,
  now: number,
): Promise<readonly string[]> {
  const named = filterOf(match)
  if (!named) return []
  if ('below' in named) return tasks.suspend(named.below, by, now)
  return each(tasks, { ...named, notHeldBy: by }, async (task) => {
    const held = await tasks.suspend(task.id, by, now)
    // What has ended by itself and nobody has swept yet is not held, and would be found for ever.
    if (held.length === 0) await tasks.end(task.id, 'expired', endedItself(task, now), now)
    return held
  })
}

const endedItself = ({ deadline }: Task, now: number): string =>
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
