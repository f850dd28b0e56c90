/**
 * Verifiers and what lies between: a relay that may keep, drop, repeat and reorder every frame that the service could
 * have made. A frame is therefore not an object here: any stamp of a run with any view that was to be seen at or after
 * that stamp may arrive at any later time, as a snapshot or as a delta.
 */
import { deadBy, type Emit } from './issuing.ts'
import {
  ANSWER_TICKS,
  type Design,
  type Epoch,
  type Freshness,
  generationOf,
  MATCHES,
  NOWHERE,
  type Run,
  type Scope,
  type State,
  type Token,
  type Verifier,
  type View,
} from './state.ts'

export const unknown = (runs: number): Verifier => ({
  known: MATCHES.map(() => NOWHERE),
  reached: NOWHERE,
  heard: NOWHERE,
  runs: Array.from({ length: runs }, () => ({ offset: null, covered: null })),
  asked: -1,
  askedAt: NOWHERE,
  askedView: 0,
  forked: false,
  lag: -1,
  refused: 0,
})

const isBehind = ({ reached, heard }: Verifier): boolean => reached < heard || reached === NOWHERE

/** How old its state is at most, by the rule of DESIGN.md, *Freshness*. */
function age(verifier: Verifier, now: number, design: Design): number {
  if (verifier.forked || isBehind(verifier)) return Number.POSITIVE_INFINITY
  let best = Number.POSITIVE_INFINITY
  for (const [of, { offset }] of verifier.runs.entries())
    for (const [by, { covered }] of verifier.runs.entries())
      if (offset !== null && covered !== null && (of === by || !design.runsApart))
        best = Math.min(best, offset + now - covered)
  return best
}

export type Verdict = 'live' | 'dead' | 'behind' | 'stale' | 'expired'

/** Its wall clock may say anything: only the service's time, which it has by the answer, is sure. */
export function verdict(verifier: Verifier, token: Token, now: number, { bound }: Scope, design: Design): Verdict {
  if (verifier.lag >= 0 && token.exp <= now - verifier.lag) return 'expired'
  if (deadBy(verifier.known, token, design)) return 'dead'
  if (design.reachesRev && design.order === 'epochs' && token.hops.some(({ rev }) => rev > verifier.reached))
    return 'behind'
  if (design.freshnessBound) return age(verifier, now, design) <= bound ? 'live' : 'stale'
  return verifier.reached === NOWHERE ? 'stale' : 'live'
}

/** A point of a run's history: stamped `s` on its clock, the log was at `epoch`. */
function noted(verifier: Verifier, run: number, s: number, epoch: Epoch): Verifier {
  const heard = Math.max(verifier.heard, epoch)
  if (epoch > verifier.reached) return { ...verifier, heard }
  const known = verifier.runs[run]!
  const covered = known.covered === null ? s : Math.max(known.covered, s)
  return { ...verifier, heard, runs: withRun(verifier.runs, run, { ...known, covered }) }
}

const withRun = (runs: readonly Freshness[], run: number, value: Freshness): readonly Freshness[] =>
  runs.map((each, at) => (at === run ? value : each))

/** Stamps of a run and the views that it could have read with them. */
function* points(
  { views, runs, now }: State,
  design: Design,
): Generator<{ readonly run: number; readonly at: number; readonly s: number; readonly view: View }> {
  for (const [run, { start, end }] of runs.entries()) {
    const over = end < 0 ? now : end
    for (let at = Math.max(start, 0); at <= over; at++)
      for (const view of views) {
        const couldRead = design.stamp === 'after' ? true : view.until < 0 || view.until >= at
        if (couldRead && view.since <= over && (view.until < 0 || view.until >= start))
          yield { run, at, s: at - start, view }
      }
  }
}

/** When the last token that an entry can match has ended. */
function endOf(views: readonly View[], match: number, epoch: Epoch, { life }: Scope, design: Design): number {
  const since = views.find(({ has }) => has[match] === epoch)?.since ?? 0
  return since + life + (design.entriesKeptFor === 'less' ? -1 : ANSWER_TICKS)
}

export function deliveries(state: State, scope: Scope, design: Design, emit: Emit): void {
  const { verifiers, views, now } = state
  for (const [index, verifier] of verifiers.entries()) {
    // Many frames say the same.
    const had = new Set([JSON.stringify(verifier)])
    const become = (label: string, next: Verifier) => {
      const text = JSON.stringify(next)
      if (had.has(text)) return
      had.add(text)
      emit(`verifier ${index} ${label}`, {
        ...state,
        verifiers: verifiers.map((each, at) => (at === index ? next : each)),
      })
    }
    // Who has no answer asks again, and the first question counts no more.
    if (verifier.asked < now)
      become('asks', { ...verifier, asked: now, askedAt: verifier.reached, askedView: views.length - 1 })
    if (scope.verifierRestarts && (verifier.reached !== NOWHERE || verifier.asked >= 0))
      become('restarts with nothing', { ...unknown(verifier.runs.length), refused: verifier.refused })
    for (const { run, at, s, view } of points(state, design)) {
      const mine = at >= verifier.asked && views.indexOf(view) >= verifier.askedView
      if (verifier.asked >= 0 && (mine || design.answersCount === 'any')) {
        const forked = verifier.forked || view.epoch < verifier.askedAt
        const { covered, offset } = verifier.runs[run]!
        const here = s - verifier.asked
        const clock = { covered, offset: offset === null ? here : Math.min(offset, here) }
        const anchored = {
          ...verifier,
          asked: -1,
          askedAt: NOWHERE,
          askedView: 0,
          forked,
          runs: withRun(verifier.runs, run, clock),
        }
        // The answer's time is what the service's clock read then.
        const timed = { ...anchored, lag: now - at }
        become(
          `has the answer of run ${run}, stamped ${s}, at place ${view.epoch}`,
          design.answersHeard ? noted(timed, run, s, view.epoch) : timed,
        )
      }
      for (const after of starts(views, view.epoch, design)) {
        const what = after === undefined ? 'a snapshot' : `what is after ${after}`
        const next = framed(
          verifier,
          run,
          s,
          view,
          after,
          (match, epoch) => endOf(views, match, epoch, scope, design) < now,
          design,
        )
        if (next) become(`gets ${what}, up to place ${view.epoch}, of run ${run}, stamped ${s}`, next)
      }
    }
    if (verifier.lag >= 0) {
      const known = verifier.known.map((epoch, match) =>
        epoch !== NOWHERE && endOf(views, match, epoch, scope, design) < now - verifier.lag ? NOWHERE : epoch,
      )
      if (known.some((epoch, match) => epoch !== verifier.known[match]))
        become('forgets what has expired', { ...verifier, known })
    }
  }
}

function* starts(views: readonly View[], epoch: Epoch, design: Design): Generator<Epoch | undefined> {
  yield undefined
  if (design.order === 'time stamps') return
  for (const view of views)
    if (view.epoch <= epoch && generationOf(view.epoch) === generationOf(epoch)) yield view.epoch
}

/** As the follower does it (sdk/verifier/src/feed-state.ts): merge by maximum, then look what the frame proves. */
function framed(
  verifier: Verifier,
  run: number,
  s: number,
  { epoch, has }: View,
  after: Epoch | undefined,
  expired: (match: number, epoch: Epoch) => boolean,
  design: Design,
): Verifier | undefined {
  const known = verifier.known.map((mine, match) => {
    const theirs = has[match]!
    const sent = theirs !== NOWHERE && (after === undefined || theirs > after) && !expired(match, theirs)
    return sent ? Math.max(mine, theirs) : mine
  })
  const merged = { ...verifier, known, heard: Math.max(verifier.heard, epoch) }
  const { reached } = verifier
  if (after === undefined) {
    if (reached !== NOWHERE && generationOf(epoch) < generationOf(reached)) return merged
    return noted({ ...merged, reached: Math.max(reached, epoch) }, run, s, epoch)
  }
  if (reached === NOWHERE || generationOf(epoch) !== generationOf(reached)) return merged
  if (design.deltasNeedStart && after > reached) return merged
  return noted({ ...merged, reached: Math.max(reached, epoch) }, run, s, epoch)
}

export function restarts(state: State, scope: Scope, emit: Emit): void {
  const { runs, now } = state
  if (runs.length >= scope.serviceRuns) return
  const last: Run = runs[runs.length - 1]!
  emit('the service restarts', {
    ...state,
    runs: [...runs.slice(0, -1), { ...last, end: now }, { start: now, end: -1 }],
    exchanges: state.exchanges.map(() => null),
  })
}

/** What a tick brings to who waits: an answer that takes too long is no longer waited for. */
export const waited = ({ verifiers, now }: State, design: Design): readonly Verifier[] =>
  verifiers.map((each) =>
    design.answersTimeOut && each.asked >= 0 && now + 1 - each.asked > ANSWER_TICKS
      ? { ...each, asked: -1, askedAt: NOWHERE, askedView: 0 }
      : each,
  )
