/**
 * Keeps a verifier's knowledge of revocations: asks for "now", follows the stream (or polls where there is none),
 * re-syncs after a gap, and acknowledges what it has applied.
 */
import { createAcknowledger } from './acknowledger.ts'
import type { ServiceClient } from './client.ts'
import { randomBase64url } from './crypto.ts'
import { compareEpochs, type Epoch, formatEpoch } from './epoch.ts'
import { feedKeyId, type FeedFrame, MAX_FEED_BYTES, readFrame, readStatement } from './feed-frame.ts'
import { createFeedState, type FeedState, type Verdict } from './feed-state.ts'
import { endpoint, type Fetch, fetchText, jsonObject, open, ServiceUnavailable } from './http.ts'
import type { Jwks } from './jwks.ts'
import type { StateStore } from './kept-state.ts'
import type { CheckedHop } from './shapes.ts'
import { createEventReader } from './sse.ts'
import { createStateKeeper } from './state-keeper.ts'
import { quietTimer } from './timer.ts'
import { createWitness, type Regression, type Witness } from './witness.ts'

const ASK_EVERY_MS = 30_000
/** Heartbeats come each second: so long a silence is a dead connection. */
const IDLE_MS = 5_000
const SYNC_TIMEOUT_MS = 2_000
/** A decision that needs more than we have waits so long for the stream before it has us fetch. */
const STREAM_PATIENCE_MS = 250
/** Decisions make us fetch at most this often. */
const REFRESH_EVERY_MS = 200
const REFRESH_AFTER_FAILURE_MS = 1_000
const STREAM_FAILURES_BEFORE_POLLING = 3
const MAX_FILES = 64
/** For all of them: what is missing then is asked of the service. */
const FILES_TIMEOUT_MS = 5_000
const POLLS_BEFORE_STREAMING_AGAIN = 30
export interface FollowerDeps {
  readonly issuer: string
  readonly serviceUrl: string
  /** A relay of the feed: it is told nothing of who we are. */
  readonly feedUrl?: string | undefined
  /** Where `errand relay --write` has its files: what a follower that knows nothing begins with. */
  readonly filesUrl?: string | undefined
  readonly fetch: Fetch
  readonly jwks: Jwks
  readonly client: Pick<ServiceClient, 'feedKey' | 'acknowledge' | 'authorization'>
  /** Unix seconds. */
  readonly now: () => number
  /** Milliseconds. */
  readonly monotonic: () => number
  readonly random: () => number
  /** Told of what went wrong in the background; never of tokens or keys. */
  readonly onProblem: (problem: unknown) => void
  readonly store?: StateStore | undefined
  /** Told of an audit log that shrank or was rewritten. */
  readonly onRegression: (regression: Regression) => void
}

export interface FollowerStatus {
  readonly epoch: string | undefined
  /** How old the state is at most; infinite where that is not known. */
  readonly ageSeconds: number
  /** The service's log went back in time: only a new generation helps (or a restart of a verifier that keeps no state). */
  readonly steppedBack: boolean
  readonly entries: number
  /** The newest checkpoint of each audit log of the service that came with the feed. */
  readonly checkpoints: readonly string[]
  /** Two checkpoints that contradict one another: the audit log shrank or was rewritten. */
  readonly regression: Regression | undefined
}

export interface Follower {
  verdict(hops: readonly CheckedHop[], boundSeconds: number): Verdict
  /** Waits, at most 250 ms, until the stream has brought this epoch. */
  reached(epoch: Epoch): Promise<void>
  /** Asks and fetches once for everybody who waits. Never rejects: the verdict afterwards says how it went. */
  refresh(): Promise<void>
  /** A lower bound of the service's time, Unix seconds. */
  serviceTime(): number | undefined
  status(): FollowerStatus
  close(): void
}

export function createFollower(deps: FollowerDeps): Follower {
  const { fetch, monotonic, random, client } = deps
  const closing = new AbortController()
  let state: FeedState | undefined
  let keyDoubted = false
  const waiters = new Set<{ readonly epoch: Epoch; readonly wake: () => void }>()

  /** The processes of one tool acknowledge each for itself. */
  const instance = randomBase64url(12)
  const url = (path: string) => endpoint(deps.feedUrl ?? deps.serviceUrl, path)
  // A relay that saw an assertion could use it at the service, in our place.
  const identity = async (): Promise<{ authorization?: string }> =>
    deps.feedUrl === undefined ? { authorization: await client.authorization() } : {}
  const get = async (path: string, timeoutMs: number, maxBytes: number) =>
    jsonObject(
      await fetchText(fetch, url(path), {
        timeoutMs,
        maxBytes,
        headers: { ...(await identity()) },
        signal: closing.signal,
      }),
    )

  async function stateWithKey(): Promise<FeedState> {
    if (state && !keyDoubted) return state
    const feedKey = await client.feedKey(instance)
    const keyId = feedKeyId(feedKey)
    if (!state || keyId !== knownKeyId) {
      const restored = await keeper.load({ issuer: deps.issuer, feedKey, keyId })
      if (restored && !state) witness = createWitness(restored.checkpoints)
      state = createFeedState({ feedKey, keyId, monotonic, restored })
      knownKeyId = keyId
    }
    keyDoubted = false
    return state
  }
  let knownKeyId: string | undefined
  let witness: Witness = createWitness()
  let regression: Regression | undefined

  const keeper = createStateKeeper({
    store: deps.store,
    checkpoints: () => witness.newest(),
    monotonic,
    onProblem: (error) => problem(error),
  })

  async function ask(to: FeedState): Promise<void> {
    const nonce = randomBase64url(18)
    to.asked(nonce)
    const { statement } = await get(`/revocations/now?nonce=${nonce}`, SYNC_TIMEOUT_MS, 65_536)
    const read = await readStatement(statement, deps)
    if (!read || !to.statement(read)) throw new ServiceUnavailable('not an answer to our nonce')
    arrived()
  }

  /** What is there, however old: the rest is asked of the service, and entries are true wherever they come from. */
  async function begin(to: FeedState): Promise<void> {
    const until = monotonic() + FILES_TIMEOUT_MS
    const file = async (name: string) => {
      const timeoutMs = Math.min(SYNC_TIMEOUT_MS, until - monotonic())
      if (timeoutMs <= 0) return undefined
      const limits = { timeoutMs, maxBytes: MAX_FEED_BYTES, signal: closing.signal }
      const answer = await fetchText(fetch, endpoint(deps.filesUrl!, name), limits)
      if (answer.status === 404 || answer.status === 403) return undefined
      const frame = await readFrame(jsonObject(answer)['frame'], deps)
      if (!frame) throw new ServiceUnavailable('not a frame of the feed')
      return frame
    }
    let next = await file('/snapshot.json')
    for (let files = 0; next && files < MAX_FILES; files++) {
      const before = to.epoch()
      const outcome = apply(to, next)
      const here = to.epoch()
      // One that brings nothing names itself as its next.
      const further = here && (!before || compareEpochs(here, before) > 0)
      if (outcome !== 'applied' || !further) return
      next = await file(`/after/${formatEpoch(here)}.json`)
    }
  }

  async function pull(to: FeedState, snapshot: boolean, waitSeconds?: number): Promise<void> {
    if (snapshot && deps.filesUrl !== undefined && to.epoch() === undefined) {
      await begin(to).catch(problem)
      if (to.epoch()) return pull(to, false, waitSeconds)
    }
    const epoch = snapshot ? undefined : to.epoch()
    const query = epoch ? `?after=${formatEpoch(epoch)}${waitSeconds === undefined ? '' : `&wait=${waitSeconds}`}` : ''
    const answer = await get(`/revocations${query}`, SYNC_TIMEOUT_MS + (waitSeconds ?? 0) * 1000, MAX_FEED_BYTES)
    const frame = await readFrame(answer['frame'], deps)
    if (!frame) throw new ServiceUnavailable('not a frame of the feed')
    const outcome = apply(to, frame)
    if (outcome === 'reset' && !snapshot) return pull(to, true)
    if (outcome !== 'applied' && outcome !== 'old') throw new ServiceUnavailable(`the feed has a fault: ${outcome}`)
  }

  function apply(to: FeedState, frame: FeedFrame) {
    const outcome = to.frame(frame)
    if (outcome === 'other_key') keyDoubted = true
    if (frame.checkpoint !== undefined) carry(to, frame, frame.checkpoint)
    if (frame.keySet !== undefined) fetchKeys(frame.keySet)
    arrived()
    // A restarted service, or another replica: its frames prove no freshness before it was asked.
    if (outcome === 'applied' && !syncing && !to.knowsRun(frame.run) && monotonic() - askedForRunAt > 1000) {
      askedForRunAt = monotonic()
      acknowledger.again()
      ask(to).catch(problem)
    }
    return outcome
  }
  function fetchKeys(digest: string): void {
    deps.jwks.announced(digest)?.then(() => {
      acknowledger.again()
      acknowledger.look()
    })
  }
  function carry(to: FeedState, { run, s }: FeedFrame, checkpoint: string): void {
    const found = witness.see(checkpoint, { run, s, at: monotonic(), notBefore: to.notBefore(run, s) })
    if (!found || regression) return // the first is the evidence; what grew out of it is no other
    regression = found
    deps.onRegression(found)
    acknowledger.again()
  }
  let askedForRunAt = Number.NEGATIVE_INFINITY

  let syncing: Promise<void> | undefined
  let syncedAt = Number.NEGATIVE_INFINITY
  let syncFailed = false
  /** One at a time, shared; never rejects. */
  function sync(): Promise<void> {
    syncing ??= (async () => {
      const to = await stateWithKey()
      const asking = ask(to)
      asking.catch(() => undefined)
      await pull(to, to.epoch() === undefined)
      await asking
      if (to.behind()) await pull(to, false) // the answer was newer than the entries
    })()
      .then(
        () => {
          syncFailed = false
        },
        (error: unknown) => {
          syncFailed = true
          problem(error)
        },
      )
      .finally(() => {
        syncedAt = monotonic()
        syncing = undefined
      })
    return syncing
  }

  const problem = (error: unknown): void => {
    if (!closing.signal.aborted) deps.onProblem(error)
  }

  function arrived(): void {
    const epoch = state?.epoch()
    if (!epoch) return
    for (const waiter of [...waiters]) if (compareEpochs(epoch, waiter.epoch) >= 0) waiter.wake()
    acknowledger.look()
    keeper.changed(state!)
  }

  const acknowledger = createAcknowledger({
    epoch: () => state?.epoch() && formatEpoch(state.epoch()!),
    say: () => ({ instance, kids: deps.jwks.kids(), ...(regression ? { regression } : {}) }),
    send: client.acknowledge,
    monotonic,
    onProblem: (error) => problem(error),
  })

  async function stream(): Promise<void> {
    const to = await stateWithKey()
    const connection = new AbortController()
    const abort = () => connection.abort()
    closing.signal.addEventListener('abort', abort)
    let idle = quietTimer(abort, IDLE_MS)
    const alive = () => {
      clearTimeout(idle)
      idle = quietTimer(abort, IDLE_MS)
    }
    try {
      const epoch = to.epoch()
      const headers = {
        accept: 'text/event-stream',
        ...(await identity()),
        ...(epoch ? { 'last-event-id': formatEpoch(epoch) } : {}),
      }
      const response = await open(fetch, url('/revocations/stream'), { headers, signal: connection.signal })
      if (response.status !== 200 || !response.body) {
        await response.body?.cancel()
        throw new ServiceUnavailable(`the stream answered ${response.status}`, { status: response.status })
      }
      to.connected()
      const arrivedTexts: string[] = []
      const read = createEventReader(MAX_FEED_BYTES, ({ event, data }) => {
        if (event === 'frame') arrivedTexts.push(data)
      })
      const decoder = new TextDecoder()
      for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
        read(decoder.decode(chunk, { stream: true }))
        for (let text = arrivedTexts.shift(); text !== undefined; text = arrivedTexts.shift()) {
          const frame = await readFrame(text, deps)
          if (!frame) throw new ServiceUnavailable('not a frame of the feed')
          alive()
          const outcome = apply(to, frame)
          // Added between our last synchronisation and this connection.
          if (outcome === 'missing') await pull(to, false)
          if (outcome === 'gap' || outcome === 'reset' || outcome === 'other_key') {
            void sync()
            throw new ServiceUnavailable(`the stream has a fault: ${outcome}`)
          }
          streamed = true
        }
      }
    } finally {
      clearTimeout(idle)
      closing.signal.removeEventListener('abort', abort)
      connection.abort()
    }
  }

  async function poll(): Promise<void> {
    for (let round = 0; round < POLLS_BEFORE_STREAMING_AGAIN && !closing.signal.aborted; round++) {
      const to = await stateWithKey()
      await pull(to, to.epoch() === undefined, 1)
      // A service that went back has nothing to wait for, and answers at once.
      if (to.forked()) await pause(1000)
    }
  }

  let streamed = false
  async function follow(): Promise<void> {
    let failures = 0
    while (!closing.signal.aborted) {
      streamed = false
      const polling = failures >= STREAM_FAILURES_BEFORE_POLLING
      try {
        if (polling) await poll()
        else await stream()
      } catch (error) {
        problem(error)
      }
      if (streamed) failures = 0
      else if (polling)
        failures = STREAM_FAILURES_BEFORE_POLLING - 1 // one try of the stream, then polling again
      else failures += 1
      // Many verifiers lose one service at the same moment: they must not come back in the same moment.
      await pause((streamed ? 100 : 500) * (0.5 + random()))
    }
  }

  async function keepAsking(): Promise<void> {
    while (!closing.signal.aborted) {
      await pause(syncFailed ? 1000 * (0.5 + random()) : ASK_EVERY_MS * (0.9 + 0.2 * random()))
      if (closing.signal.aborted) return
      await sync()
      state?.prune(deps.now())
    }
  }

  const pause = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        closing.signal.removeEventListener('abort', done)
        resolve()
      }
      const timer = quietTimer(done, ms)
      closing.signal.addEventListener('abort', done)
      if (closing.signal.aborted) done()
    })

  void sync().then(() => {
    void follow()
    void keepAsking()
  })

  return {
    verdict: (hops, boundSeconds) =>
      state?.verdict(hops, boundSeconds) ?? { kind: 'stale', ageSeconds: Number.POSITIVE_INFINITY },
    async reached(epoch) {
      const here = state?.epoch()
      if (here && compareEpochs(here, epoch) >= 0) return
      await new Promise<void>((resolve) => {
        const waiter = {
          epoch,
          wake: () => {
            clearTimeout(timer)
            waiters.delete(waiter)
            resolve()
          },
        }
        const timer = quietTimer(waiter.wake, STREAM_PATIENCE_MS)
        waiters.add(waiter)
      })
    },
    async refresh() {
      const pauseMs = syncFailed ? REFRESH_AFTER_FAILURE_MS : REFRESH_EVERY_MS
      if (syncing || monotonic() - syncedAt >= pauseMs) await sync()
    },
    serviceTime: () => state?.serviceTime(),
    status: () => ({
      epoch: state?.epoch() && formatEpoch(state.epoch()!),
      ageSeconds: state?.ageSeconds() ?? Number.POSITIVE_INFINITY,
      steppedBack: state?.forked() ?? false,
      entries: state?.size() ?? 0,
      checkpoints: witness.newest(),
      regression,
    }),
    close() {
      keeper.close()
      acknowledger.close()
      closing.abort()
      for (const waiter of [...waiters]) waiter.wake()
    },
  }
}
