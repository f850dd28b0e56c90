/**
 * Fills the streams of receivers out of the revocation log, and delivers what waits in them (Shared Signals Framework 1.0).
 * Each stream knows up to which entry it was filled: whatever stops in between, nothing is left out while its entry lasts,
 * and nothing is queued twice. Delivery is at least once; `jti` tells.
 */
import { randomBytes } from 'node:crypto'
import type { MachineClient } from '../../attest/registration.ts'
import { TYP } from '../../oauth/words.ts'
import type { Revocation, RevocationLog } from '../revocation-log.ts'
import { claimsOf, jtiOf, type Naming, type Told, toldOf } from './events-of.ts'
import type { Post } from './poll.ts'
import type { QueuedEvent, SignalStream, SignalStreams, StreamSettings } from './streams.ts'
import { EVENT, type SetFault } from './words.ts'

/** Beyond it a stream is disabled: its receiver has long ceased to listen. */
const MOST_QUEUED = 10_000
/** Signed anew for each delivery. */
const MOST_AT_ONCE = 32
const LONGEST_WAIT_SECONDS = 300
export const MIN_VERIFICATION_SECONDS = 30

export type Receiver = MachineClient & {
  readonly kind: 'receiver'
  readonly receiver: { readonly audience: string; readonly pushUrl?: string }
}

export const isReceiver = (machine: MachineClient): machine is Receiver =>
  machine.kind === 'receiver' && machine.receiver !== undefined

export interface Transmitter {
  /** Fills what there is to fill, and begins to push what waits; one run at a time. */
  run(): Promise<void>
  /** Signed tokens by `jti`, oldest first, and whether there are more. */
  take(stream: SignalStream, most: number): Promise<{ readonly sets: Record<string, string>; readonly more: boolean }>
  settle(stream: SignalStream, acks: readonly string[], faults: Readonly<Record<string, SetFault>>): Promise<void>
  /** SSF §8.1.4: queues a verification event, or answers how many seconds to wait before the next may be asked for. */
  verify(stream: SignalStream, state: string | undefined): Promise<number>
  /** What waits in a stream that is not disabled any more begins now. */
  begin(id: string): Promise<void>
  /** Resolves when something was queued, or the time is over. */
  news(milliseconds: number): Promise<void>
  close(): void
}

export interface TransmitDeps {
  readonly streams: SignalStreams
  readonly log: Pick<RevocationLog, 'after' | 'epoch' | 'onAdded'>
  readonly receivers: () => readonly Receiver[]
  readonly naming: () => Naming
  readonly sign: (typ: string, claims: object) => string | Promise<string>
  readonly open: (stream: string, sealed: string) => string
  readonly post: Post
  readonly now: () => number
  /** Told once when pushing to a receiver begins to fail, and once when it works again. */
  readonly onProblem: (receiver: string, problem: string | undefined) => void
}

interface Pushing {
  failures: number
  nextAt: number
}

export function createTransmitter(deps: TransmitDeps): Transmitter {
  const { streams, log, now } = deps
  // By receiver: one that deletes its stream and makes another is who it was.
  const pushing = new Map<string, Pushing>()
  const verifiedAt = new Map<string, number>()
  const underWay = new Set<string>()
  const waiting = new Set<() => void>()
  let stale = true
  let running: Promise<void> | undefined
  const wake = () => {
    for (const each of [...waiting]) each()
  }
  const unsubscribe = log.onAdded(() => {
    stale = true
    void run().catch(() => undefined) // the timer comes again
  })

  const receiverOf = (stream: SignalStream) => deps.receivers().find(({ clientId }) => clientId === stream.receiver)
  const queued = (stream: SignalStream, told: Told, jti: string, txn?: string): QueuedEvent => {
    const { receiver } = receiverOf(stream)!
    const more = txn === undefined ? {} : { txn }
    const { issuer } = deps.naming()
    const claims = claimsOf({ issuer, audience: receiver.audience, jti, now: now(), ...more }, told)
    return { jti, claims: JSON.stringify(claims) }
  }
  const about = (stream: SignalStream, type: string, event: Told['event']): QueuedEvent =>
    queued(
      stream,
      { type, subjectId: { format: 'opaque', id: stream.id }, event },
      randomBytes(16).toString('base64url'),
    )

  async function fill(stream: SignalStream): Promise<void> {
    for (const entry of await log.after(stream.cursor)) {
      const told = wanted(stream, toldOf(entry, deps.naming()))
      const events = told ? [queued(stream, told, jtiOf(stream.id, entry), txnOf(entry))] : []
      const answer = await streams.append(stream.id, entry.epoch, events, MOST_QUEUED)
      if (answer === 'gone') return
      if (answer === 'full') return disable(stream)
    }
  }

  /** SSF §8.1.5: said in the stream before it stops. */
  async function disable(stream: SignalStream): Promise<void> {
    const statusReason = 'more events waited than are kept'
    await streams.restart(stream.id, await log.epoch())
    await streams.change(stream.id, { ...settingsOf(stream), status: 'disabled', statusReason })
    await streams.add(stream.id, about(stream, EVENT.streamUpdated, { status: 'disabled', reason: statusReason }))
    deps.onProblem(stream.receiver, statusReason)
  }

  async function push(stream: SignalStream): Promise<void> {
    const to = receiverOf(stream)?.receiver.pushUrl
    if (to === undefined) return
    const state = pushing.get(stream.receiver) ?? { failures: 0, nextAt: 0 }
    pushing.set(stream.receiver, state)
    // A clock that was set back must not make it wait until then.
    if (now() < state.nextAt && state.nextAt - now() <= LONGEST_WAIT_SECONDS) return
    try {
      for (const { jti, claims } of await streams.pending(stream.id, MOST_AT_ONCE)) {
        const { status, text } = await deps.post({
          uri: to,
          body: { type: `application/${TYP.securityEvent}`, text: await sign(claims) },
          headers:
            stream.authorization === undefined ? {} : { authorization: deps.open(stream.id, stream.authorization) },
        })
        // RFC 8935 §2.3: one that the receiver cannot take now it will not take later.
        if (status === 400) deps.onProblem(stream.receiver, `refused an event: ${faultIn(text)}`)
        else if (status !== 202 && status !== 200) throw new Error(`status ${status}`)
        await streams.acknowledge(stream.id, [jti])
        if (state.failures > 0) deps.onProblem(stream.receiver, undefined)
        state.failures = 0
      }
    } catch (error) {
      if (state.failures === 0) deps.onProblem(stream.receiver, error instanceof Error ? error.message : 'no answer')
      state.failures += 1
      state.nextAt = now() + Math.min(LONGEST_WAIT_SECONDS, 2 ** Math.min(state.failures, 10))
    }
  }

  const sign = async (claims: string) => deps.sign(TYP.securityEvent, JSON.parse(claims) as object)

  async function runOnce(): Promise<void> {
    const all = (await streams.list()).filter((stream) => receiverOf(stream) !== undefined)
    while (stale) {
      stale = false
      try {
        for (const stream of all) if (stream.status !== 'disabled') await fill(stream)
      } catch (error) {
        stale = true
        throw error
      }
      wake()
    }
    // Not waited for: a receiver that is slow holds up nobody else's events.
    for (const stream of all.filter(isPushed)) {
      if (underWay.has(stream.id)) continue
      underWay.add(stream.id)
      void push(stream).finally(() => underWay.delete(stream.id))
    }
  }

  function run(): Promise<void> {
    if (deps.receivers().length === 0) return Promise.resolve()
    running ??= runOnce().finally(() => {
      running = undefined
    })
    return running
  }

  return {
    run,
    async take(stream, most) {
      if (stream.status === 'paused') return { sets: {}, more: false }
      const bound = Math.min(most, MOST_AT_ONCE)
      const found = await streams.pending(stream.id, bound + 1)
      const signed = found.slice(0, bound).map(async ({ jti, claims }) => [jti, await sign(claims)] as const)
      return {
        sets: Object.fromEntries(await Promise.all(signed)),
        more: found.length > bound,
      }
    },
    async settle(stream, acks, faults) {
      const refused = Object.entries(faults)
      await streams.acknowledge(stream.id, [...acks, ...refused.map(([jti]) => jti)])
      const [first] = refused
      if (first) deps.onProblem(stream.receiver, `refused ${refused.length} of its events: ${first[1].err}`)
    },
    async verify(stream, state) {
      const wait = (verifiedAt.get(stream.receiver) ?? Number.NEGATIVE_INFINITY) + MIN_VERIFICATION_SECONDS - now()
      if (wait > 0 && wait <= MIN_VERIFICATION_SECONDS) return Math.ceil(wait)
      verifiedAt.set(stream.receiver, now())
      await streams.add(stream.id, about(stream, EVENT.verification, state === undefined ? {} : { state }))
      wake()
      void run().catch(() => undefined)
      return 0
    },
    begin: async (id) => streams.restart(id, await log.epoch()),
    news: (milliseconds) =>
      new Promise((done) => {
        const end = () => {
          clearTimeout(timer)
          waiting.delete(end)
          done()
        }
        const timer = setTimeout(end, milliseconds)
        timer.unref()
        waiting.add(end)
      }),
    close() {
      unsubscribe()
      wake()
    },
  }
}

/** Also of a stream that was disabled: what it was told last. */
const isPushed = ({ delivery, status }: SignalStream): boolean => delivery === 'push' && status !== 'paused'

function wanted({ eventsRequested, removed }: SignalStream, told: Told | undefined): Told | undefined {
  if (!told || (eventsRequested && !eventsRequested.includes(told.type))) return undefined
  return removed.includes(canonicalSubject(told.subjectId)) ? undefined : told
}

/** Two simple subjects are the same where all their members are (SSF §8.1.3.1). */
export const canonicalSubject = (subjectId: object): string =>
  JSON.stringify(Object.entries(subjectId).sort(([a], [b]) => (a < b ? -1 : 1)))

const txnOf = ({ id }: Revocation): string => id

export const settingsOf = ({ id: _, receiver: __, cursor: ___, ...settings }: SignalStream): StreamSettings => settings

function faultIn(text: string): string {
  const err = /"err"\s*:\s*"([a-z_]{1,40})"/.exec(text.slice(0, 1000))?.[1]
  return err ?? 'without a reason'
}
