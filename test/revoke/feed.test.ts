import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { feedKeyId } from '@errand/verifier/feed-frame.ts'
import { valueDigest } from '@errand/verifier/shapes.ts'
import { createFeed, type Feed, type FeedFrame } from '../../src/revoke/feed.ts'
import { createFakeLog, type FakeLog, revocation } from '../verifier-follow/fake-log.ts'

const feedKey = new Uint8Array(32).fill(7)
const NOW = 1_800_000_000

let log: FakeLog
let mono: number
let feed: Feed
let signed: { typ: string; payload: Record<string, unknown> }[]
let slowSigner: Promise<void> | undefined

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] })
  log = createFakeLog()
  mono = 5_000
  signed = []
  slowSigner = undefined
  feed = createFeed({
    log,
    feedKey,
    issuer: 'https://errand.example',
    now: () => NOW + 0.5,
    monotonic: () => mono,
    newRunId: () => 'run-1',
    sign: async (typ, payload) => {
      await slowSigner
      signed.push({ typ, payload: payload as Record<string, unknown> })
      return { jws: JSON.stringify(payload) }
    },
  })
})
afterEach(() => {
  feed.close()
  vi.useRealTimers()
})

const read = ({ frame }: FeedFrame) => JSON.parse(frame) as Record<string, unknown>
async function advance(ms: number): Promise<void> {
  mono += ms
  await vi.advanceTimersByTimeAsync(ms)
}

describe('frames', () => {
  test('a frame leaves at most 20 ms after its entry, and holds its digest, not its value', async () => {
    const seen: FeedFrame[] = []
    feed.subscribe((frame) => void seen.push(frame))
    await log.add(revocation({ agent: 'spiffe://company.example/agents/research', aud: 'https://crm.example/' }))
    await advance(20)
    expect(seen).toHaveLength(1)
    expect(seen[0]!.epoch).toBe('0.1')
    const frame = read(seen[0]!)
    const text = JSON.stringify(['spiffe://company.example/agents/research', 'https://crm.example/'])
    expect(frame).toMatchObject({
      iss: 'https://errand.example',
      run: 'run-1',
      seq: 1,
      prev: '',
      k: feedKeyId(feedKey),
    })
    expect(frame['entries']).toEqual([
      { e: '0.1', d: 'agent+aud', v: valueDigest(feedKey, 'agent+aud', text), x: 1_800_000_400 },
    ])
    expect(seen[0]!.frame).not.toContain('research')
    expect(signed[0]!.typ).toBe('errand-frame+jwt')
  })

  test('entries that come together share one frame', async () => {
    const seen: FeedFrame[] = []
    feed.subscribe((frame) => void seen.push(frame))
    await log.add(revocation({ task: 'task_a' }))
    await log.add(revocation({}, { absolute: true }))
    await advance(20)
    expect(seen).toHaveLength(1)
    expect(read(seen[0]!)['entries']).toMatchObject([
      { e: '0.1', d: 'task' },
      { e: '0.2', d: '', a: true },
    ])
  })

  test('a heartbeat each second is one signature for all subscribers, chained by digest and number', async () => {
    const one: FeedFrame[] = []
    const two: FeedFrame[] = []
    feed.subscribe((frame) => void one.push(frame))
    feed.subscribe((frame) => void two.push(frame))
    await advance(1000)
    await advance(1000)
    expect(signed).toHaveLength(2)
    expect(one).toEqual(two)
    expect(read(one[1]!)).toMatchObject({
      seq: 2,
      prev: createHash('sha256').update(one[0]!.frame).digest('base64url'),
      after: '0.0',
      epoch: '0.0',
      s: 7_000,
    })
    expect(read(one[1]!)).not.toHaveProperty('entries')
  })

  test('nothing is signed while nobody listens, and who comes later misses nothing', async () => {
    await log.add(revocation({ task: 'task_a' }))
    await advance(3000)
    expect(signed).toHaveLength(0)
    const seen: FeedFrame[] = []
    feed.subscribe((frame) => void seen.push(frame))
    await advance(1000)
    await log.add(revocation({ task: 'task_b' }))
    await advance(20)
    expect(seen.map(read)).toMatchObject([
      { after: '0.1', epoch: '0.1' },
      { after: '0.1', epoch: '0.2' },
    ])
  })

  test('the stamp is taken before the epoch is read, and one pair at a time', async () => {
    const order: string[] = []
    const epoch = log.epoch
    const probing = createFeed({
      log: {
        ...log,
        epoch: async () => {
          order.push('epoch')
          return epoch()
        },
      },
      feedKey,
      issuer: 'https://errand.example',
      now: () => NOW,
      monotonic: () => {
        order.push('stamp')
        return mono
      },
      newRunId: () => 'run-2',
      sign: async (_typ, payload) => ({ jws: JSON.stringify(payload) }),
    })
    await Promise.all([
      probing.snapshot(),
      probing.statement('n'.repeat(16)),
      probing.delta({ generation: 0, sequence: 0 }),
    ])
    // One pair for each question, and the one with which the feed begins.
    expect(order).toEqual(Array.from({ length: 4 }, () => ['stamp', 'epoch']).flat())
    probing.close()
  })

  test('a subscriber that does not keep up is dropped, the others are not', async () => {
    let dropped = 0
    feed.subscribe(
      () => new Promise<void>(() => undefined),
      () => {
        dropped += 1
      },
    )
    const seen: FeedFrame[] = []
    feed.subscribe((frame) => void seen.push(frame))
    for (let second = 0; second < 70; second++) await advance(1000)
    expect(dropped).toBe(1)
    expect(seen).toHaveLength(70)
  })

  test('a log that is away costs a heartbeat, not the feed', async () => {
    const seen: FeedFrame[] = []
    feed.subscribe((frame) => void seen.push(frame))
    const epoch = log.epoch
    log.epoch = async () => {
      throw new Error('away')
    }
    await advance(1000)
    log.epoch = epoch
    await advance(1000)
    expect(seen.map(read)).toMatchObject([{ seq: 1 }])
  })
})

describe('snapshots and deltas', () => {
  test('a snapshot holds every live entry and is signed once per epoch', async () => {
    await log.add(revocation({ task: 'task_a' }))
    await log.add(revocation({ task: 'task_b' }))
    const [one, two] = await Promise.all([feed.snapshot(), feed.snapshot()])
    expect(one).toBe(two)
    expect(signed).toHaveLength(1)
    expect(read(one)).toMatchObject({ kind: 'snapshot', epoch: '0.2', entries: [{ e: '0.1' }, { e: '0.2' }] })
    await log.add(revocation({ task: 'task_c' }))
    expect((await feed.snapshot()).epoch).toBe('0.3')
  })

  test('a delta holds what came after, and is a snapshot for another generation or a place we never reached', async () => {
    await log.add(revocation({ task: 'task_a' }))
    await log.add(revocation({ task: 'task_b' }))
    expect(read(await feed.delta({ generation: 0, sequence: 1 }))).toMatchObject({
      kind: 'delta',
      after: '0.1',
      epoch: '0.2',
      entries: [{ e: '0.2' }],
    })
    expect(read(await feed.delta({ generation: 0, sequence: 9 }))).toMatchObject({ kind: 'snapshot' })
    log.newGeneration()
    expect(read(await feed.delta({ generation: 0, sequence: 2 }))).toMatchObject({ kind: 'snapshot', epoch: '1.2' })
  })

  test('a long poll ends with the entry it waited for, or with an empty delta', async () => {
    const waited = feed.wait({ generation: 0, sequence: 0 }, 30)
    await advance(100)
    await log.add(revocation({ task: 'task_a' }))
    expect(read(await waited)).toMatchObject({ kind: 'delta', epoch: '0.1', entries: [{ e: '0.1' }] })
    const empty = feed.wait({ generation: 0, sequence: 1 }, 5)
    await advance(5000)
    expect(read(await empty)).toMatchObject({ kind: 'delta', epoch: '0.1', entries: [] })
    const aborted = new AbortController()
    const left = feed.wait({ generation: 0, sequence: 1 }, 600, aborted.signal)
    aborted.abort()
    expect(read(await left)).toMatchObject({ epoch: '0.1' })
  })
})

describe('statements', () => {
  test('many nonces go under one signature, each after it was asked', async () => {
    let release: () => void = () => undefined
    slowSigner = new Promise((resolve) => {
      release = resolve
    })
    const first = feed.statement('first-nonce-0123456')
    await vi.advanceTimersByTimeAsync(0)
    mono += 40
    const others = ['second-nonce-012345', 'third-nonce-0123456'].map((nonce) => feed.statement(nonce))
    release()
    slowSigner = undefined
    const [a, b, c] = await Promise.all([first, ...others])
    expect(b).toBe(c)
    expect(JSON.parse(a!)).toMatchObject({ nonces: ['first-nonce-0123456'], s: 5_000 })
    expect(JSON.parse(b!)).toEqual({
      iss: 'https://errand.example',
      run: 'run-1',
      s: 5_040,
      epoch: '0.0',
      nonces: ['second-nonce-012345', 'third-nonce-0123456'],
      time: NOW,
    })
    expect(signed.map(({ typ }) => typ)).toEqual(['errand-now+jwt', 'errand-now+jwt'])
  })

  test.each(['', 'fifteen-chars-x', 'x'.repeat(65), 'has space in it 12', 'ümlaut-nonce-12345'])(
    '%j is no nonce',
    async (nonce) => {
      expect(await feed.statement(nonce)).toBeUndefined()
      expect(signed).toHaveLength(0)
    },
  )
})
