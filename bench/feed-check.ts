/** What a verifier holds and what a check costs it, at so many live entries: printed as JSON. Run with --expose-gc. */
import { randomBytes } from 'node:crypto'
import { createFeedState } from '@errand/verifier/feed-state.ts'
import type { FeedEntry } from '@errand/verifier/feed-frame.ts'
import type { CheckedHop } from '@errand/verifier/shapes.ts'

const ENTRIES = 100_000
const SHAPES = ['agent', 'aud+sub', 'jti', 'sub', 'task'] as const
const TOKENS = 1_000
const ROUNDS = 300

const collect = (globalThis as { gc?: () => void }).gc ?? (() => undefined)
const heap = () => {
  collect()
  collect()
  return process.memoryUsage().heapUsed
}

const state = createFeedState({ feedKey: randomBytes(32), keyId: 'k', monotonic: () => performance.now() })
const empty = heap()
/** In pieces, as they are when they come over the wire. */
for (let done = 0; done < ENTRIES; done += 1_000) {
  const entries: FeedEntry[] = Array.from({ length: 1_000 }, (_, at) => ({
    epoch: { generation: 1, sequence: done + at + 1 },
    shape: SHAPES[at % SHAPES.length]!,
    value: randomBytes(16).toString('base64url'),
    expiresAt: 2_000_000_000 + at,
    absolute: false,
  }))
  const frame = { run: 'r', seq: 1, s: done, prev: '', keyId: 'k', digest: '', epoch: entries.at(-1)!.epoch, entries }
  state.frame(
    done === 0 ? { ...frame, kind: 'snapshot' } : { ...frame, kind: 'delta', after: { generation: 1, sequence: done } },
  )
}
const bytes = (heap() - empty) / ENTRIES

const rev = { generation: 1, sequence: ENTRIES }
const hopOf = (at: number): CheckedHop => ({
  rev,
  facts: {
    sub: `company|user-${at}`,
    root: `task_${at}`,
    task: `task_${at}`,
    jti: `token-${at}`,
    aud: 'https://tickets.example.com/',
    client_id: 'research',
    agent: 'spiffe://company.example/agents/research',
    kid: 'key-1',
    policy: 'AbCdEf12',
    domain: 'company.example',
  },
  digests: undefined,
})
const micros = (run: () => void, times: number): number => {
  const began = performance.now()
  run()
  return ((performance.now() - began) * 1000) / times
}
const seen = Array.from({ length: TOKENS }, (_, at) => [hopOf(at)])
const again = () => {
  for (let round = 0; round < ROUNDS; round++) for (const hops of seen) state.verdict(hops, 30)
}
again()
const check = [0, 1, 2, 3, 4].map(() => micros(again, ROUNDS * TOKENS))
const first = [0, 1, 2, 3, 4].map((round) => {
  const fresh = Array.from({ length: TOKENS }, (_, at) => [hopOf((round + 1) * TOKENS + at)])
  return micros(() => {
    for (const hops of fresh) state.verdict(hops, 30)
  }, TOKENS)
})
console.log(JSON.stringify({ entries: state.size(), bytes, check, first }))
