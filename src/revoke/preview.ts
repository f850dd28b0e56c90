/** What a revocation would touch, before it is made: tasks by index, live tokens by their counts. Changes nothing. */
import type { HopFacts } from '@errand/verifier/shapes.ts'
import { type LiveTask, type LiveTasks, liveTaskOf } from '../tasks/live-tasks.ts'
import { stateAt } from '../tasks/task.ts'
import type { TaskStore } from '../tasks/task-store.ts'
import type { LiveEverywhere } from './live-everywhere.ts'
import type { LiveTokens } from './live-tokens.ts'
import { filterOf } from './matching-tasks.ts'
import type { RevocationMode } from './revocation-log.ts'

/** So many tasks are found; where there are more, the preview says so. */
const MAX_PREVIEWED_TASKS = 100_000

export interface Preview {
  /** `go_on`: only tokens of theirs die. */
  readonly effect: 'end' | 'suspend' | 'contain' | 'go_on'
  readonly tasks: readonly string[]
  /** Whether these are all. */
  readonly complete: boolean
  readonly subjects: ReadonlySet<string>
  /** By client id. */
  readonly agents: ReadonlySet<string>
  readonly audiences: ReadonlySet<string>
  readonly live: LiveEverywhere
  /** By component: those that have it. */
  readonly releases?: readonly string[]
}

export interface PreviewDeps {
  readonly now: () => number
  readonly tasks: Pick<TaskStore, 'get' | 'tree'>
  readonly liveTasks: LiveTasks
  readonly live: { readonly matching: (...asked: Parameters<LiveTokens['matching']>) => Promise<LiveEverywhere> }
  /** A match as the revocation would have it. */
  readonly widened: (match: HopFacts) => Promise<HopFacts>
}

const EFFECTS: Readonly<Record<RevocationMode, Preview['effect']>> = {
  ban: 'end',
  suspend: 'suspend',
  contain: 'contain',
  cut: 'go_on',
}

export type PreviewOf = (match: HopFacts, mode: RevocationMode) => Promise<Preview>

export function createPreview(deps: PreviewDeps): PreviewOf {
  return async (match, mode) => {
    const whole = await wholeTasks(deps, match)
    const live = await deps.live.matching(await deps.widened(match), { withTasks: !whole })
    const tasks = whole ?? []
    return {
      effect: whole ? EFFECTS[mode] : 'go_on',
      tasks: whole ? whole.slice(0, MAX_PREVIEWED_TASKS).map(({ id }) => id) : [...live.tasks],
      complete: whole ? whole.length <= MAX_PREVIEWED_TASKS : live.exact,
      subjects: new Set([...tasks.map(({ subject }) => subject), ...live.subjects]),
      agents: new Set([...tasks.map(({ agent }) => agent), ...live.agents]),
      audiences: live.audiences,
      live,
    }
  }
}

/** Those that the match names as a whole, with all below them; undefined where it speaks of some tokens only. */
async function wholeTasks(deps: PreviewDeps, match: HopFacts): Promise<readonly LiveTask[] | undefined> {
  const named = filterOf(match)
  if (!named) return undefined
  const now = deps.now()
  if (!('below' in named)) return deps.liveTasks.matching(named, now, MAX_PREVIEWED_TASKS + 1)
  const top = await deps.tasks.get(named.below)
  if (!top) return []
  const below = new Set([top.id])
  const tree = await deps.tasks.tree(top.root) // parents come before their children
  for (const each of tree) if (each.parent !== undefined && below.has(each.parent)) below.add(each.id)
  return tree
    .filter((each) => below.has(each.id) && ['active', 'suspended'].includes(stateAt(each, now)))
    .map(liveTaskOf)
}
