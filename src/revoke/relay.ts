/**
 * A relay of the revocation feed: one connection to the service for many verifiers. It needs no trust and no key: what it
 * passes on is signed by the service, how fresh that is its readers compute, and what the service alone can say (over a
 * nonce) it asks for many at once. Signatures are checked only so that no garbage is passed on.
 */
import { compareEpochs, type Epoch, formatEpoch } from '@errand/verifier/epoch.ts'
import { type FeedFrame as ReadFrame, MAX_FEED_BYTES, readFrame, readStatement } from '@errand/verifier/feed-frame.ts'
import { endpoint, type Fetch, fetchText, jsonObject, open, ServiceUnavailable } from '@errand/verifier/http.ts'
import type { Jwks } from '@errand/verifier/jwks.ts'
import { createEventReader } from '@errand/verifier/sse.ts'
import { type FeedFrame, feedFrame } from './feed.ts'
import { isNonce, MAX_NONCES } from './statement.ts'

/** Heartbeats come each second: so long a silence is a dead connection. */
const IDLE_MS = 5_000
const TIMEOUT_MS = 5_000
/** Nonces that come close together are asked in one question: that much older is what is answered. */
const GATHER_MS = 5
/** One answer of the service serves every reader of the same place for so long. */
const REUSE_MS = 250
const MAX_CACHED_DELTAS = 256
/** Whoever asks for ever other places must not make of us a flood on the service. */
const MAX_QUESTIONS = 64

export interface RelayDeps {
  readonly issuer: string
  readonly fetch: Fetch
  readonly jwks: Jwks
  /** Milliseconds. */
  readonly monotonic: () => number
  readonly random: () => number
  readonly onProblem: (problem: unknown) => void
}

/** What a relay serves; rejects with `ServiceUnavailable` where the service cannot be asked. */
export interface Relay {
  snapshot(): Promise<FeedFrame>
  delta(after: Epoch): Promise<FeedFrame>
  /** A delta as soon as there is something after `after`, or after so many seconds. */
  wait(after: Epoch, seconds: number, signal: AbortSignal): Promise<FeedFrame>
  /** Undefined where it is no nonce. */
  statement(nonce: string): Promise<string | undefined>
  /** Each frame as it comes. `ended` is called when frames may have been lost: whoever reads on must come again. */
  subscribe(listener: (frame: FeedFrame) => void, ended: () => void): () => void
  /** Whether frames arrive now, and up to where they have. */
  status(): { readonly connected: boolean; readonly epoch: string | undefined }
  close(): void
}

interface Subscriber {
  readonly listener: (frame: FeedFrame) => void
  readonly ended: () => void
}

interface Cached {
  readonly at: number
  readonly epoch: string | undefined
  readonly made: Promise<FeedFrame>
}

export function createRelay(deps: RelayDeps): Relay {
  const { issuer, fetch, monotonic, random } = deps
  const closing = new AbortController()
  const subscribers = new Set<Subscriber>()
  const waiting = new Set<() => void>()
  const cached = new Map<string, Cached>()
  let newest: Epoch | undefined
  let connected = false
  let questions = 0

  const problem = (error: unknown): void => {
    if (!closing.signal.aborted) deps.onProblem(error)
  }

  function heard(epoch: Epoch): void {
    if (newest && compareEpochs(epoch, newest) <= 0) return
    newest = epoch
    for (const wake of [...waiting]) wake()
  }

  async function get(path: string, maxBytes: number): Promise<{ readonly [name: string]: unknown }> {
    if (questions >= MAX_QUESTIONS) throw new ServiceUnavailable('too many questions at once')
    questions += 1
    try {
      const { signal } = closing
      return jsonObject(await fetchText(fetch, endpoint(issuer, path), { timeoutMs: TIMEOUT_MS, maxBytes, signal }))
    } finally {
      questions -= 1
    }
  }

  async function checked(text: unknown): Promise<ReadFrame> {
    const frame = await readFrame(text, deps)
    if (!frame) throw new ServiceUnavailable('not a frame of the feed')
    return frame
  }

  /** While frames arrive, an answer that has reached the newest epoch is as good as another. */
  function shared(path: string, reuseMs: number): Promise<FeedFrame> {
    const known = cached.get(path)
    const here = newest && formatEpoch(newest)
    if (known && known.epoch === here && connected && monotonic() - known.at <= reuseMs) return known.made
    const made = (async () => {
      const { frame } = await get(path, MAX_FEED_BYTES)
      const { epoch } = await checked(frame)
      heard(epoch)
      return feedFrame(frame as string, formatEpoch(epoch))
    })()
    const mine: Cached = { at: monotonic(), epoch: here, made }
    cached.delete(path)
    cached.set(path, mine)
    if (cached.size > MAX_CACHED_DELTAS) cached.delete(cached.keys().next().value!)
    made.catch(() => {
      if (cached.get(path) === mine) cached.delete(path)
    })
    return made
  }
  const snapshot = () => shared('/revocations', Number.POSITIVE_INFINITY)
  const delta = (after: Epoch) => shared(`/revocations?after=${formatEpoch(after)}`, REUSE_MS)

  // Questions of now

  interface Batch {
    readonly nonces: Set<string>
    readonly answer: Promise<string>
  }
  let gathering: Batch | undefined
  async function askFor(nonces: Set<string>): Promise<string> {
    await pause(GATHER_MS, closing.signal)
    if (gathering?.nonces === nonces) gathering = undefined
    const { statement } = await get(`/revocations/now?nonce=${[...nonces].join(',')}`, 65_536)
    const read = await readStatement(statement, deps)
    if (!read || ![...nonces].every((nonce) => read.nonces.includes(nonce)))
      throw new ServiceUnavailable('not an answer to the nonces')
    return statement as string
  }

  // The one stream from the service

  async function stream(): Promise<void> {
    const connection = new AbortController()
    const abort = () => connection.abort()
    closing.signal.addEventListener('abort', abort)
    let idle = setTimeout(abort, IDLE_MS)
    try {
      const headers = {
        accept: 'text/event-stream',
        // Without a place to go on from it would send everything; what there is readers ask for.
        'last-event-id': newest ? formatEpoch(newest) : (await snapshot()).epoch,
      }
      const response = await open(fetch, endpoint(issuer, '/revocations/stream'), {
        headers,
        signal: connection.signal,
      })
      if (response.status !== 200 || !response.body) {
        await response.body?.cancel()
        throw new ServiceUnavailable(`the stream answered ${response.status}`, { status: response.status })
      }
      const arrived: string[] = []
      const read = createEventReader(MAX_FEED_BYTES, ({ event, data }) => {
        if (event === 'frame') arrived.push(data)
      })
      const decoder = new TextDecoder()
      for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
        read(decoder.decode(chunk, { stream: true }))
        for (let text = arrived.shift(); text !== undefined; text = arrived.shift()) {
          const { epoch, kind } = await checked(text)
          clearTimeout(idle)
          idle = setTimeout(abort, IDLE_MS)
          connected = true
          // What the stream begins with is for us alone: its readers begin where they were themselves.
          if (kind === 'live') {
            const frame = feedFrame(text, formatEpoch(epoch))
            for (const { listener } of subscribers) listener(frame)
          }
          heard(epoch)
        }
      }
    } finally {
      connected = false
      clearTimeout(idle)
      closing.signal.removeEventListener('abort', abort)
      connection.abort()
      for (const { ended } of [...subscribers]) ended()
    }
  }

  async function follow(): Promise<void> {
    while (!closing.signal.aborted) {
      await stream().catch(problem)
      if (closing.signal.aborted) return
      await pause(200 + 300 * random(), closing.signal)
    }
  }
  void follow()

  return {
    snapshot,
    delta,
    async wait(after, seconds, signal) {
      if (newest && compareEpochs(newest, after) === 0) await pause(seconds * 1000, signal, waiting)
      return delta(after)
    },
    async statement(nonce) {
      if (!isNonce(nonce)) return undefined
      if (!gathering || gathering.nonces.size >= MAX_NONCES) {
        const nonces = new Set<string>()
        gathering = { nonces, answer: askFor(nonces) }
      }
      gathering.nonces.add(nonce)
      return gathering.answer
    },
    subscribe(listener, ended) {
      const subscriber: Subscriber = { listener, ended }
      subscribers.add(subscriber)
      return () => subscribers.delete(subscriber)
    },
    status: () => ({ connected, epoch: newest && formatEpoch(newest) }),
    close() {
      closing.abort()
      for (const wake of [...waiting]) wake()
    },
  }
}

/** So long, or until the signal, or until one of `wakers` is called. */
const pause = (ms: number, signal: AbortSignal, wakers?: Set<() => void>): Promise<void> =>
  new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      wakers?.delete(done)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    wakers?.add(done)
    signal.addEventListener('abort', done)
    if (signal.aborted) done()
  })
