/** Live tokens of all replicas: each counts what it issued itself, and is asked when somebody wants to know. */
import type { HopFacts } from '@errand/verifier/shapes.ts'
import type { LiveMatch, LiveTokens } from './live-tokens.ts'
import type { Replicas } from './replicas.ts'

/** Names that one replica tells another; of more it tells how many tokens there are. */
const MOST_NAMES = 20_000

export interface LiveEverywhere extends LiveMatch {
  /** Another replica did not answer in time: what it issued is not among them. */
  readonly incomplete?: true
}

interface Question {
  readonly match: HopFacts
  readonly withTasks: boolean
}

const SETS = ['tasks', 'subjects', 'agents', 'audiences'] as const
type Answer = Pick<LiveMatch, 'count' | 'exact' | 'latestExpiry'> & {
  readonly [S in (typeof SETS)[number]]: readonly string[]
}

export interface LiveEverywhereDeps {
  readonly live: Pick<LiveTokens, 'matching'>
  /** Absent where one process is alone. */
  readonly replicas?: Replicas | undefined
  readonly run: string
  readonly onError: (error: unknown) => void
}

export async function openLiveEverywhere({ live, replicas, run, onError }: LiveEverywhereDeps) {
  await replicas?.answer(async (question) => {
    const { match, withTasks } = JSON.parse(question) as Question
    return JSON.stringify(toAnswer(await live.matching(match, { withTasks })))
  }, onError)

  return {
    async matching(match: HopFacts, options: { readonly withTasks: boolean }): Promise<LiveEverywhere> {
      if (!replicas) return live.matching(match, options)
      const question: Question = { match, ...options }
      const [own, others] = await Promise.all([
        live.matching(match, options),
        replicas.ask(JSON.stringify(question), run),
      ])
      const told = [...others.values()].flatMap((text) => (text === undefined ? [] : [JSON.parse(text) as Answer]))
      return {
        ...together([toAnswer(own, Number.POSITIVE_INFINITY), ...told]),
        ...(told.length < others.size ? { incomplete: true, exact: false } : {}),
      }
    },
  }
}

function toAnswer(found: LiveMatch, most = MOST_NAMES): Answer {
  const { count, exact, latestExpiry } = found
  const some = (set: (typeof SETS)[number]) => [...found[set]].slice(0, most)
  return {
    count,
    exact: exact && SETS.every((set) => found[set].size <= most),
    ...(latestExpiry === undefined ? {} : { latestExpiry }),
    tasks: some('tasks'),
    subjects: some('subjects'),
    agents: some('agents'),
    audiences: some('audiences'),
  }
}

function together(answers: readonly Answer[]): LiveMatch {
  const latest = Math.max(0, ...answers.map(({ latestExpiry = 0 }) => latestExpiry))
  const union = (set: (typeof SETS)[number]) => new Set(answers.flatMap((answer) => answer[set]))
  return {
    count: answers.reduce((sum, { count }) => sum + count, 0),
    exact: answers.every(({ exact }) => exact),
    ...(latest === 0 ? {} : { latestExpiry: latest }),
    tasks: union('tasks'),
    subjects: union('subjects'),
    agents: union('agents'),
    audiences: union('audiences'),
  }
}
