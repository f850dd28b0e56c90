/**
 * A relay of the revocation feed: one connection to the service for many verifiers. It needs no trust and no key: what it
 * passes on is signed by the service, how fresh that is its readers compute, and what the service alone can say (over a
 * nonce) it asks for many at once. Signatures are checked only so that no garbage is passed on.
 */
import { setMaxListeners } from 'node:events'
import { compareEpochs, type Epoch, formatEpoch } from '@errand/verifier/epoch.ts'
import { type FeedFrame as ReadFrame, MAX_FEED_BYTES, readFrame, readStatement } from '@errand/verifier/feed-frame.ts'
import { endpoint, type Fetch, fetchText, jsonObject, open, ServiceUnavailable } from '@errand/verifier/http.ts'
import type { Jwks } from '@errand/verifier/jwks.ts'
import { createEventReader } from '@errand/verifier/sse.ts'
import { type FeedFrame, feedFrame } from './feed.ts'
import { createRelayFrames } from './relay-frames.ts'
import { createRelayStatements } from './relay-statements.ts'

/** Heartbeats come each second: so long a silence is a dead connection. */
const IDLE_MS = 5_000
const TIMEOUT_MS = 5_000
/** Whoever asked has given up by then, and the next ones wait. */
const NOW_TIMEOUT_MS = 2_000
/** Whoever asks for ever other places must not make of us a flood on the service. Questions of now have their own bounds. */
const MAX_FRAMES_AT_ONCE = 16
/** More verifiers say it again, or to the service itself. */
const MAX_ACKS_AT_ONCE = 64

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
  /** Brings what a verifier has signed to the service; answers its status. */
  acknowledge(ack: string): Promise<number>
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

export function createRelay(deps: RelayDeps): Relay {
  const { issuer, fetch, monotonic, random } = deps
  const closing = new AbortController()
  // As many questions as there may be at once.
  setMaxListeners(0, closing.signal)
  const subscribers = new Set<Subscriber>()
  const waiting = new Set<() => void>()
  let newest: Epoch | undefined
  let connected = false
  let asking = 0
  let bringing = 0

  const problem = (error: unknown): void => {
    if (!closing.signal.aborted) deps.onProblem(error)
  }

  function heard(epoch: Epoch): void {
    if (newest && compareEpochs(epoch, newest) <= 0) return
    newest = epoch
    for (const wake of [...waiting]) wake()
  }

  const get = async (path: string, limits: { readonly timeoutMs: number; readonly maxBytes: number }) =>
    jsonObject(await fetchText(fetch, endpoint(issuer, path), { ...limits, signal: closing.signal }))

  async function checked(text: unknown): Promise<ReadFrame> {
    const frame = await readFrame(text, deps)
    if (!frame) throw new ServiceUnavailable('not a frame of the feed')
    return frame
  }

  async function askForFrame(path: string): Promise<FeedFrame> {
    if (asking >= MAX_FRAMES_AT_ONCE) throw new ServiceUnavailable('too many questions at once')
    asking += 1
    try {
      const { frame } = await get(path, { timeoutMs: TIMEOUT_MS, maxBytes: MAX_FEED_BYTES })
      const { epoch } = await checked(frame)
      heard(epoch)
      return feedFrame(frame as string, formatEpoch(epoch))
    } finally {
      asking -= 1
    }
  }
  const frames = createRelayFrames({
    ask: askForFrame,
    newest: () => newest,
    connected: () => connected,
    monotonic,
  })
  const { snapshot, delta } = frames

  const statement = createRelayStatements({
    async ask(nonces) {
      const limits = { timeoutMs: NOW_TIMEOUT_MS, maxBytes: 65_536 }
      const answer = await get(`/revocations/now?nonce=${nonces.join(',')}`, limits)
      const read = await readStatement(answer['statement'], deps)
      if (!read || !nonces.every((nonce) => read.nonces.includes(nonce)))
        throw new ServiceUnavailable('not an answer to the nonces')
      return answer['statement'] as string
    },
    pause: (milliseconds) => pause(milliseconds, closing.signal),
    monotonic,
  })

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
    statement,
    async acknowledge(ack) {
      if (bringing >= MAX_ACKS_AT_ONCE) throw new ServiceUnavailable('too many acknowledgements at once')
      bringing += 1
      try {
        const { status } = await fetchText(fetch, endpoint(issuer, '/revocations/acks/relayed'), {
          method: 'POST',
          timeoutMs: NOW_TIMEOUT_MS,
          maxBytes: 65_536,
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ ack }),
          signal: closing.signal,
        })
        return status
      } finally {
        bringing -= 1
      }
    },
    subscribe(listener, ended) {
      const subscriber: Subscriber = { listener, ended }
      subscribers.add(subscriber)
      return () => subscribers.delete(subscriber)
    },
    status: () => ({ connected, epoch: newest && formatEpoch(newest) }),
    close() {
      closing.abort()
      frames.close()
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
