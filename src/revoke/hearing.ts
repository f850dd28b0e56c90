/**
 * What verifiers say of themselves, to whichever replica: each notes what it hears, and once a second they tell one another.
 * So what is known of a verifier is known of all its processes, and what cannot be known is not taken for granted.
 */
import { compareEpochs, type Epoch, formatEpoch, parseEpoch } from '@errand/verifier/epoch.ts'
import type { HeldKeys } from '../rotate/held-keys.ts'
import type { Acks, Said } from './acks.ts'
import type { OtherReplica, Replicas, ToldByReplica } from './replicas.ts'

/** A process that said nothing for so long is gone; so is a replica, and whoever was told something by it refuses by now. */
const FORGET_SECONDS = 180
/** As long as a token lives, and clocks may differ: then nothing is left of a replica that stopped. */
const GONE_MS = 400_000
/** Of so many processes the others are told. */
const MAX_TOLD = 16_384
/** What others hear is told each second. */
const FRESH_MS = 5_000

export interface Hearing {
  /** A process asked for what it needs to read the feed. */
  begun(verifier: string, instance: string): void
  said(verifier: string, said: Said & { readonly kids: readonly string[] }): void
  left(verifier: string, instance: string | undefined): void
  /** Whether each process that may have been told something before `epoch` is heard of here. */
  covers(epoch: Epoch): boolean
  /** Unix seconds: since when all are heard of, by our clock. */
  since(): number
  /** Whether what the others hear is known here. */
  fresh(): boolean
  /** Each second or so. */
  tick(): Promise<void>
}

export interface HearingDeps {
  readonly acks: Acks
  readonly heldKeys: HeldKeys
  /** Of other keys nothing is told. */
  readonly isPrepared: (kid: string) => boolean
  /** Something was heard that a key may have waited for. */
  readonly onHeard: () => void
  /** Absent where one process is alone. */
  readonly replicas?: Replicas | undefined
  readonly epoch: () => Promise<Epoch>
  readonly run: string
  /** Nothing had been recorded here before this start. */
  readonly isFirst: boolean
  readonly now: () => number
  readonly monotonic: () => number
}

interface Known extends ToldByReplica {
  readonly beat: number
  readonly seenAt: number
  readonly movedAtMs: number
}

export async function openHearing(deps: HearingDeps): Promise<Hearing> {
  const { acks, heldKeys, replicas, now, monotonic } = deps
  const startedAt = deps.isFirst ? 0 : now()
  /** What is told here, by whom it is about, and when it was said last. */
  const saidAt = new Map<string, number>()
  let news = new Map<string, string>()
  /** By verifier: all its processes see one log, and one of them is enough to say what is wrong with it. */
  const tellers = new Map<string, string>()
  /** What was told and is over. */
  const over = new Set<string>()
  let others = new Map<string, Known>()
  let coversSelf: Epoch | undefined
  let exchangedAtMs = Number.NEGATIVE_INFINITY

  function tell(verifier: string, instance: string, { regression, ...word }: Word): void {
    if (!replicas) return
    const about = `${verifier} ${instance}`
    if (regression && !tellers.has(verifier)) tellers.set(verifier, about)
    const tells = regression && tellers.get(verifier) === about
    news.set(about, JSON.stringify({ ...word, ...(tells ? { regression } : {}) }))
    over.delete(about)
    saidAt.delete(about) // what was said last stands last
    saidAt.set(about, now())
    if (saidAt.size > MAX_TOLD) takeBack(saidAt.keys().next().value!)
  }

  function takeBack(about: string): void {
    saidAt.delete(about)
    news.delete(about)
    over.add(about)
    const [verifier = ''] = about.split(' ')
    if (tellers.get(verifier) === about) tellers.delete(verifier)
  }

  function hear(about: string, word: Word): void {
    const [verifier = '', instance = ''] = about.split(' ')
    if (word.left) {
      acks.leave(verifier, instance)
      heldKeys.leave(verifier, instance)
      return
    }
    const epoch = parseEpoch(word.epoch)
    if (!epoch) {
      acks.begun(verifier, instance, now())
      return
    }
    acks.note(verifier, { epoch, instance, ...(word.regression ? { regression: word.regression } : {}) }, now())
    heldKeys.note(verifier, instance, word.kids ?? [], now())
    deps.onHeard()
  }

  const alive = (): readonly Known[] =>
    [...others.values()].filter(({ movedAtMs }) => monotonic() - movedAtMs < FORGET_SECONDS * 1000)

  function known(other: OtherReplica): Known {
    const before = others.get(other.id)
    const { run, first, covers, beat } = other
    const same = before?.run === run
    return {
      ...{ run, first, covers, beat },
      // By our clock: theirs may be another, and when it began is not known of one that was there before us.
      seenAt: same ? before.seenAt : first && !before ? 0 : now(),
      movedAtMs: same && before.beat === beat ? before.movedAtMs : monotonic(),
    }
  }

  async function tick(): Promise<void> {
    if (!replicas) return
    // First: whoever is not among the words that are gathered after it was told what stands there.
    const covers = await deps.epoch()
    for (const [about, at] of saidAt) {
      if (at + FORGET_SECONDS >= now()) break
      takeBack(about)
    }
    const mine = { run: deps.run, first: deps.isFirst, covers, words: news, over: [...over] }
    news = new Map()
    over.clear()
    const gone = [...others].filter(([, { movedAtMs }]) => monotonic() - movedAtMs > GONE_MS).map(([id]) => id)
    const found = await replicas.exchange({ ...mine, gone })
    others = new Map(found.map((other) => [other.id, known(other)]))
    for (const { words: heard } of found)
      for (const [about, text] of heard) if (text !== '') hear(about, JSON.parse(text) as Word)
    coversSelf = covers
    exchangedAtMs = monotonic()
  }

  // Before anybody talks to it: then the others know that it is there.
  await tick()
  return {
    begun(verifier, instance) {
      acks.begun(verifier, instance, now())
      tell(verifier, instance, {})
    },
    said(verifier, { kids, ...said }) {
      const { epoch, instance = '', regression } = said
      acks.note(verifier, said, now())
      heldKeys.note(verifier, instance, kids, now())
      deps.onHeard()
      tell(verifier, instance, {
        epoch: formatEpoch(epoch),
        kids: kids.filter(deps.isPrepared),
        ...(regression ? { regression } : {}),
      })
    },
    left(verifier, instance = '') {
      acks.leave(verifier, instance)
      heldKeys.leave(verifier, instance)
      deps.onHeard()
      tell(verifier, instance, { left: true })
    },
    covers: (epoch) =>
      !replicas ||
      (coversSelf !== undefined &&
        [{ covers: coversSelf }, ...alive()].every(({ covers }) => compareEpochs(covers, epoch) >= 0)),
    since: () => Math.max(startedAt, ...alive().map(({ seenAt }) => seenAt)),
    fresh: () => !replicas || monotonic() - exchangedAtMs < FRESH_MS,
    tick,
  }
}

/** Without an epoch it began, and has applied nothing that it told. */
interface Word {
  readonly epoch?: string
  readonly kids?: readonly string[]
  readonly regression?: NonNullable<Said['regression']>
  readonly left?: true
}
