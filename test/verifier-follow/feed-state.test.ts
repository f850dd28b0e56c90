import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { compareEpochs, type Epoch, parseEpoch } from '@errand/verifier/epoch.ts'
import { type FeedFrame, feedKeyId, type Statement } from '@errand/verifier/feed-frame.ts'
import { createFeedState, type FeedState } from '@errand/verifier/feed-state.ts'
import { type CheckedHop, DIMENSIONS, type HopFacts } from '@errand/verifier/shapes.ts'
import { createFeed, type Feed } from '../../src/revoke/feed.ts'
import { createFakeLog, type FakeLog, revocation } from './fake-log.ts'

const feedKey = new Uint8Array(32).fill(9)
const NOW = 1_800_000_000

// What feed-frame.ts makes of a signed frame; signatures are its own business.
function toFrame(text: string): FeedFrame {
  const payload = JSON.parse(text)
  const after = parseEpoch(payload.after)
  return {
    kind: payload.kind ?? 'live',
    run: payload.run,
    seq: payload.seq,
    s: payload.s,
    prev: payload.prev,
    keyId: payload.k,
    ...(after ? { after } : {}),
    epoch: parseEpoch(payload.epoch)!,
    entries: (payload.entries ?? []).map((entry: { e: string; d: string; v: string; x: number; a?: true }) => ({
      epoch: parseEpoch(entry.e)!,
      shape: entry.d,
      value: entry.v,
      expiresAt: entry.x,
      absolute: entry.a === true,
    })),
    digest: createHash('sha256').update(text).digest('base64url'),
  }
}
function toStatement(text: string): Statement {
  const payload = JSON.parse(text)
  return { ...payload, epoch: parseEpoch(payload.epoch)! }
}

const hop = (rev: string, facts: HopFacts): CheckedHop => ({ rev: parseEpoch(rev)!, facts })
const wait = () => vi.advanceTimersByTimeAsync(0)

let serial = 0
const nonce = () => `nonce-${String(++serial).padStart(16, '0')}`

let log: FakeLog
/** The service's monotonic clock, and the verifier's: they have nothing to do with one another but their pace. */
let serviceMs: number
let localMs: number
let feed: Feed
let state: FeedState
const feeds: Feed[] = []

function startFeed(run: string): Feed {
  const made = createFeed({
    log,
    feedKey,
    issuer: 'https://errand.example',
    now: () => NOW + serviceMs / 1000,
    monotonic: () => serviceMs,
    newRunId: () => run,
    sign: async (_typ, payload) => ({ jws: JSON.stringify(payload) }),
  })
  feeds.push(made)
  return made
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] })
  log = createFakeLog()
  serviceMs = 1_000_000
  localMs = 50
  feed = startFeed('run-a')
  state = createFeedState({ feedKey, keyId: feedKeyId(feedKey), monotonic: () => localMs })
})
afterEach(() => {
  for (const made of feeds.splice(0)) made.close()
  vi.useRealTimers()
})

function pass(ms: number): void {
  serviceMs += ms
  localMs += ms
}
async function ask(): Promise<boolean> {
  const question = nonce()
  state.asked(question)
  return state.statement(toStatement((await feed.statement(question))!))
}
async function sync(): Promise<void> {
  const epoch = state.epoch()
  state.frame(toFrame((epoch ? await feed.delta(epoch) : await feed.snapshot()).frame))
  await ask()
}

describe('freshness', () => {
  test('a state is stale until a nonce was answered and a snapshot is here', async () => {
    const token = hop('0.0', { jti: 'a' })
    expect(state.verdict([token], 30)).toMatchObject({ kind: 'behind' })
    state.frame(toFrame((await feed.snapshot()).frame))
    expect(state.verdict([token], 30)).toEqual({ kind: 'stale', ageSeconds: Number.POSITIVE_INFINITY })
    await ask()
    expect(state.verdict([token], 30)).toEqual({ kind: 'live' })
  })

  test('L8 age is computed at the moment of decision: after a stop of 60 s nothing is fresh', async () => {
    await sync()
    const token = hop('0.0', { jti: 'a' })
    pass(1_990)
    expect(state.verdict([token], 2)).toEqual({ kind: 'live' })
    pass(20)
    expect(state.verdict([token], 2)).toMatchObject({ kind: 'stale' })
    expect(state.verdict([token], 30)).toEqual({ kind: 'live' })
    pass(60_000)
    expect(state.verdict([token], 30)).toMatchObject({ kind: 'stale' })
  })

  test('a slow answer counts from when it was asked, not from when it came', async () => {
    state.frame(toFrame((await feed.snapshot()).frame))
    const question = nonce()
    state.asked(question)
    const answer = toStatement((await feed.statement(question))!)
    pass(4_000)
    state.statement(answer)
    expect(state.ageSeconds()).toBeCloseTo(4.001, 6)
  })

  test('heartbeats keep a state fresh, and 120 s without an answer to a nonce end it', async () => {
    await sync()
    feed.subscribe((frame) => void state.frame(toFrame(frame.frame)))
    for (let second = 0; second < 119; second++) {
      pass(1000)
      await vi.advanceTimersByTimeAsync(1000)
    }
    expect(state.verdict([hop('0.0', { jti: 'a' })], 2)).toEqual({ kind: 'live' })
    pass(1_500)
    await vi.advanceTimersByTimeAsync(1500)
    expect(state.ageSeconds()).toBe(Number.POSITIVE_INFINITY)
    await ask()
    expect(state.verdict([hop('0.0', { jti: 'a' })], 2)).toEqual({ kind: 'live' })
  })

  test('a statement over nobody’s nonce, or over one answered before, proves nothing', async () => {
    state.frame(toFrame((await feed.snapshot()).frame))
    expect(state.statement(toStatement((await feed.statement(nonce()))!))).toBe(false)
    const question = nonce()
    state.asked(question)
    const answer = toStatement((await feed.statement(question))!)
    expect(state.statement(answer)).toBe(true)
    expect(state.statement(answer)).toBe(false)
  })

  test('a run that never answered a nonce proves no freshness, however new its stamps look', async () => {
    await sync()
    pass(40_000)
    serviceMs += 10_000_000 // another process, another clock
    feed = startFeed('run-b')
    state.frame(toFrame((await feed.delta(state.epoch()!)).frame))
    expect(state.knowsRun('run-b')).toBe(false)
    expect(state.verdict([hop('0.0', { jti: 'a' })], 30)).toMatchObject({ kind: 'stale' })
    await ask()
    expect(state.verdict([hop('0.0', { jti: 'a' })], 2)).toEqual({ kind: 'live' })
  })

  test('hearing of an epoch that is not here makes the state stale until it is', async () => {
    await sync()
    await log.add(revocation({ jti: 'b' }))
    await ask()
    expect(state.behind()).toBe(true)
    expect(state.verdict([hop('0.0', { jti: 'a' })], 30)).toMatchObject({ kind: 'stale' })
    state.frame(toFrame((await feed.delta(state.epoch()!)).frame))
    expect(state.verdict([hop('0.0', { jti: 'a' })], 30)).toEqual({ kind: 'live' })
  })

  test('the service’s time is the newest statement’s, and goes on with our monotonic clock', async () => {
    expect(state.serviceTime()).toBeUndefined()
    await sync()
    expect(state.serviceTime()).toBe(NOW + 1000)
    pass(7_000)
    expect(state.serviceTime()).toBe(NOW + 1007)
  })
})

describe('what is dead', () => {
  test('L3 a token dies with any of its ancestors, and the verdict says which hop', async () => {
    await log.add(revocation({ task: 'task_parent' }))
    await sync()
    const own = hop('0.1', { task: 'task_child' })
    expect(state.verdict([own, hop('0.0', { task: 'task_parent' })], 30)).toEqual({ kind: 'dead', hop: 1 })
    expect(state.verdict([own, hop('0.1', { task: 'task_parent' })], 30)).toEqual({ kind: 'live' })
  })

  test('a token checked after an entry is not killed by it, and a conjunction must hold within one hop (R4)', async () => {
    await log.add(revocation({ agent: 'x', aud: 'y' }))
    await sync()
    expect(state.verdict([hop('0.0', { agent: 'x', aud: 'y' })], 30)).toEqual({ kind: 'dead', hop: 0 })
    expect(state.verdict([hop('0.1', { agent: 'x', aud: 'y' })], 30)).toEqual({ kind: 'live' })
    expect(state.verdict([hop('0.0', { agent: 'x', aud: 'z' })], 30)).toEqual({ kind: 'live' })
    expect(state.verdict([hop('0.0', { agent: 'x', aud: 'z' }), hop('0.0', { agent: 'w', aud: 'y' })], 30)).toEqual({
      kind: 'live',
    })
  })

  test('an absolute entry kills whatever rev a token claims', async () => {
    await log.add(revocation({ kid: 'stolen' }, { absolute: true }))
    await sync()
    expect(state.verdict([hop('7.9', { kid: 'stolen' })], 30)).toEqual({ kind: 'dead', hop: 0 })
  })

  test('dead is said whatever the age of the state', async () => {
    await log.add(revocation({ jti: 'a' }))
    await sync()
    pass(3_600_000)
    expect(state.verdict([hop('0.0', { jti: 'a' })], 2)).toEqual({ kind: 'dead', hop: 0 })
    expect(state.verdict([hop('0.0', { jti: 'b' })], 2)).toMatchObject({ kind: 'stale' })
  })

  test('L10 a token that was checked at an epoch we have not reached is neither accepted nor dead', async () => {
    await sync()
    expect(state.verdict([hop('0.1', { jti: 'a' })], 30)).toEqual({ kind: 'behind' })
    await log.add(revocation({ jti: 'b' }))
    state.frame(toFrame((await feed.delta(state.epoch()!)).frame))
    expect(state.verdict([hop('0.1', { jti: 'a' })], 30)).toEqual({ kind: 'live' })
  })

  test('entries are forgotten when no token they match can be alive, and not because one clock ran ahead', async () => {
    await log.add(revocation({ jti: 'a' }, { expiresAt: NOW + 1300 }))
    await sync()
    state.prune(NOW + 100_000)
    expect(state.size()).toBe(1)
    pass(500_000)
    state.prune(NOW + 100_000)
    expect(state.size()).toBe(0)
  })

  test('more live shapes than a check may cost make the state stale, not blind', async () => {
    const pairs = DIMENSIONS.flatMap((one) => DIMENSIONS.filter((two) => one < two).map((two) => [one, two] as const))
    await log.add(revocation({ jti: 'a' }))
    await sync()
    for (const [one, two] of pairs.slice(0, 32)) await log.add(revocation({ [one]: 'p', [two]: 'q' }))
    expect(state.frame(toFrame((await feed.delta(state.epoch()!)).frame))).toBe('gap')
    await ask()
    expect(state.verdict([hop('0.0', { jti: 'zzz' })], 30)).toMatchObject({ kind: 'stale' })
    expect(state.verdict([hop('0.0', { jti: 'a' })], 30)).toEqual({ kind: 'dead', hop: 0 })
  })
})

describe('gaps, repetitions, steps back', () => {
  async function liveFrames(count: number): Promise<FeedFrame[]> {
    const seen: FeedFrame[] = []
    const unsubscribe = feed.subscribe(({ frame }) => void seen.push(toFrame(frame)))
    for (let index = 0; index < count; index++) {
      await log.add(revocation({ jti: `j${index}` }))
      pass(1000)
      await vi.advanceTimersByTimeAsync(20)
    }
    unsubscribe()
    return seen
  }

  test('L6 a frame that was cut out is a gap: nothing is fresh before a new synchronisation', async () => {
    await sync()
    const [one, , three] = await liveFrames(3)
    state.connected()
    expect(state.frame(one!)).toBe('applied')
    expect(state.frame(three!)).toBe('gap')
    expect(state.verdict([hop('0.0', { jti: 'other' })], 30)).toMatchObject({ kind: 'stale' })
    // What it held counts at once all the same.
    expect(state.verdict([hop('0.0', { jti: 'j2' })], 30)).toEqual({ kind: 'dead', hop: 0 })
    await sync()
    expect(state.verdict([hop('0.3', { jti: 'other' })], 2)).toEqual({ kind: 'live' })
    expect(state.verdict([hop('0.0', { jti: 'j1' })], 2)).toEqual({ kind: 'dead', hop: 0 })
  })

  test('L6 frames in another order or twice are gaps, and lower nothing', async () => {
    await sync()
    const [one, two] = await liveFrames(2)
    state.connected()
    expect(state.frame(two!)).toBe('missing')
    expect(state.frame(one!)).toBe('gap')
    expect(state.ageSeconds()).toBe(Number.POSITIVE_INFINITY)
    state.connected()
    expect(state.frame(one!)).toBe('applied')
    expect(state.frame(one!)).toBe('gap')
    state.connected()
    expect(state.frame(two!)).toBe('applied')
    expect(state.epoch()).toEqual({ generation: 0, sequence: 2 })
    state.connected()
    expect(state.frame(one!)).toBe('applied')
    expect(state.epoch()).toEqual({ generation: 0, sequence: 2 })
  })

  test('L6 an older snapshot lowers nothing and proves only the age it has', async () => {
    await sync()
    const old = toFrame((await feed.snapshot()).frame)
    await liveFrames(2)
    await sync()
    const before = state.ageSeconds()
    pass(20_000)
    expect(state.frame(old)).toBe('applied')
    expect(state.epoch()).toEqual({ generation: 0, sequence: 2 })
    expect(state.verdict([hop('0.0', { jti: 'j0' })], 30)).toEqual({ kind: 'dead', hop: 0 })
    expect(state.ageSeconds()).toBeCloseTo(before + 20, 6)
  })

  test('entries that came before the connection are missing until a delta brings them, and the chain goes on', async () => {
    await sync()
    await log.add(revocation({ jti: 'before' }))
    pass(1000)
    await vi.advanceTimersByTimeAsync(1000)
    const [one, two] = await liveFrames(2)
    state.connected()
    expect(state.frame(one!)).toBe('missing')
    expect(state.verdict([hop('0.0', { jti: 'x' })], 30)).toMatchObject({ kind: 'stale' })
    expect(state.frame(toFrame((await feed.delta(state.epoch()!)).frame))).toBe('applied')
    expect(state.frame(two!)).toBe('applied')
    expect(state.verdict([hop('0.0', { jti: 'before' })], 30)).toEqual({ kind: 'dead', hop: 0 })
  })

  test('a heartbeat of another chain on one connection is a gap', async () => {
    await sync()
    const [one] = await liveFrames(1)
    state.connected()
    state.frame(one!)
    expect(state.frame({ ...one!, seq: 2, prev: 'of another chain' })).toBe('gap')
    expect(state.ageSeconds()).toBe(Number.POSITIVE_INFINITY)
  })

  test('a log that goes back within its generation is trusted again only in a new generation', async () => {
    await sync()
    await liveFrames(2)
    await sync()
    log.loseLast()
    await ask()
    expect(state.forked()).toBe(true)
    await log.add(revocation({ jti: 'after the loss' }))
    await sync()
    expect(state.verdict([hop('0.2', { jti: 'x' })], 30)).toMatchObject({ kind: 'stale' })
    log.newGeneration()
    state.frame(toFrame((await feed.snapshot()).frame))
    await ask()
    expect(state.forked()).toBe(false)
    expect(state.verdict([hop('1.2', { jti: 'x' })], 30)).toEqual({ kind: 'live' })
    expect(state.verdict([hop('0.2', { jti: 'after the loss' })], 30)).toEqual({ kind: 'dead', hop: 0 })
  })

  test('a new generation needs a snapshot, and frames of the old one count for nothing any more', async () => {
    await sync()
    const old = toFrame((await feed.snapshot()).frame)
    await liveFrames(1)
    log.newGeneration()
    const delta = toFrame((await feed.snapshot()).frame)
    expect(state.frame({ ...delta, kind: 'delta', after: { generation: 0, sequence: 0 } })).toBe('reset')
    expect(state.frame(delta)).toBe('applied')
    await ask()
    expect(state.verdict([hop('1.1', { jti: 'x' })], 2)).toEqual({ kind: 'live' })
    expect(state.frame(old)).toBe('old')
    expect(state.epoch()).toEqual({ generation: 1, sequence: 1 })
  })

  test('digests made with another key are noticed, not compared', async () => {
    await sync()
    const [one] = await liveFrames(1)
    expect(state.frame({ ...one!, keyId: 'another' })).toBe('other_key')
    expect(state.epoch()).toEqual({ generation: 0, sequence: 0 })
  })
})

describe('any order of events', () => {
  interface Minted {
    readonly hops: readonly CheckedHop[]
    readonly facts: HopFacts
    readonly rev: Epoch
  }
  interface Added {
    readonly match: HopFacts
    readonly epoch: Epoch
    /** Local time by which it was acknowledged. */
    readonly at: number
  }

  const names = { jti: fc.nat(1), aud: fc.nat(1) }
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant('revoke' as const),
        ...names,
        shape: fc.constantFrom('jti', 'aud', 'both'),
      }),
    },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('mint' as const), ...names }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.constantFrom(20, 300, 1000) }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.constantFrom(2500, 40_000, 130_000) }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constantFrom('ask' as const, 'answer' as const, 'ask and answer' as const) }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('snapshot' as const, 'delta' as const) }) },
    // `back` counts from the newest frame.
    { weight: 6, arbitrary: fc.record({ do: fc.constant('deliver' as const), back: fc.nat(4), remove: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('reconnect' as const) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('restart' as const, 'generation' as const) }) },
  )

  test('Inv1 Inv2 no verdict is live past its bound for what an entry kills, none is taken back, none is wrong', async () => {
    const BOUND = 2
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 80 }), async (steps) => {
        log = createFakeLog()
        serviceMs = 1_000_000
        localMs = 50
        state = createFeedState({ feedKey, keyId: feedKeyId(feedKey), monotonic: () => localMs })
        let runs = 0
        /** Whatever the service ever sent; the network delivers it never, late, twice, in any order. */
        const frames: string[] = []
        const answers: string[] = []
        const listen = () => {
          feed = startFeed(`run-${++runs}`)
          feed.subscribe(({ frame }) => void frames.push(frame))
        }
        listen()
        const added: Added[] = []
        const minted: Minted[] = []
        const dead = new Set<Minted>()

        await sync()
        for (const it of steps) {
          switch (it.do) {
            case 'revoke': {
              const jti = `j${it.jti}`
              const aud = `a${it.aud}`
              const match = it.shape === 'jti' ? { jti } : it.shape === 'aud' ? { aud } : { jti, aud }
              const { entry } = await log.add(revocation(match))
              added.push({ match, epoch: entry.epoch, at: localMs })
              break
            }
            case 'mint': {
              const facts = { jti: `j${it.jti}`, aud: `a${it.aud}` }
              const rev = await log.epoch()
              minted.push({ facts, rev, hops: [{ facts, rev }] })
              break
            }
            case 'pass':
              pass(it.ms)
              await vi.advanceTimersByTimeAsync(Math.min(it.ms, 1000))
              break
            case 'ask and answer':
              await ask()
              break
            case 'ask': {
              const question = nonce()
              state.asked(question)
              answers.push((await feed.statement(question))!)
              break
            }
            case 'answer': {
              const answer = answers.shift()
              if (answer) state.statement(toStatement(answer))
              break
            }
            case 'snapshot':
              frames.push((await feed.snapshot()).frame)
              state.frame(toFrame(frames.at(-1)!))
              break
            case 'delta':
              frames.push((await feed.delta(state.epoch() ?? { generation: 0, sequence: 0 })).frame)
              state.frame(toFrame(frames.at(-1)!))
              break
            case 'deliver': {
              const index = frames.length - 1 - it.back
              const frame = frames[index]
              if (frame) state.frame(toFrame(frame))
              if (frame && it.remove) frames.splice(index, 1)
              break
            }
            case 'reconnect':
              state.connected()
              break
            case 'restart':
              feed.close()
              serviceMs = 500 + runs // a new process, whose clock begins anew
              listen()
              break
            case 'generation':
              log.newGeneration()
              break
          }
          await wait()
          for (const token of minted) {
            const verdict = state.verdict(token.hops, BOUND)
            const kills = added.filter(
              ({ match, epoch }) =>
                compareEpochs(epoch, token.rev) > 0 &&
                (match.jti === undefined || match.jti === token.facts.jti) &&
                (match.aud === undefined || match.aud === token.facts.aud),
            )
            if (verdict.kind === 'live')
              // R1: what was acknowledged longer ago than the bound is never live.
              expect(kills.filter(({ at }) => at < localMs - BOUND * 1000)).toEqual([])
            // R2
            if (dead.has(token)) expect(verdict.kind).toBe('dead')
            if (verdict.kind === 'dead') {
              dead.add(token)
              // R4, within one generation; a new one replays entries under new epochs, and may kill too much.
              const sameGeneration = (await log.epoch()).generation === token.rev.generation
              if (sameGeneration) expect(kills).not.toEqual([])
            }
          }
        }
        feed.close()
      }),
      { numRuns: 600 },
    )
  })
})
