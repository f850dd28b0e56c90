/**
 * The real feed and the real state of followers, between a log and a relay that keeps whatever was sent: at every call
 * fast-check's scheduler says who comes next. What is true is known by the order in which things happened, as in `model/`.
 */
import { createPublicKey } from 'node:crypto'
import fc from 'fast-check'
import { compareEpochs, type Epoch } from '@errand/verifier/epoch.ts'
import { type FeedFrame, feedKeyId, readFrame, readStatement, type Statement } from '@errand/verifier/feed-frame.ts'
import { createFeedState, type FeedState } from '@errand/verifier/feed-state.ts'
import type { Jwks } from '@errand/verifier/jwks.ts'
import type { CheckedHop, HopFacts } from '@errand/verifier/shapes.ts'
import { signEs256 } from '@errand/verifier/signature.ts'
import { Unavailable } from '../../src/oauth/refusal.ts'
import { createFeed, type Feed } from '../../src/revoke/feed.ts'
import { createFakeLog, revocation } from '../verifier-follow/fake-log.ts'
import { ISSUER, keyPair, START } from '../verifier-follow/fake-service.ts'

const BOUND_SECONDS = 2
const VERIFIERS = 2
const FEED_KEY = new Uint8Array(32).fill(7)
const AGENTS = ['research', 'payments', 'triage'] as const

const MATCHES: readonly HopFacts[] = [
  { client_id: 'research' },
  { client_id: 'payments' },
  { task: 'task_1' },
  { aud: 'tickets', client_id: 'research' },
  {},
]

/** A frame that could not be made is asked for again. */
const away = (error: unknown): void => {
  if (!(error instanceof Unavailable)) throw error
}

const verifier = fc.nat({ max: VERIFIERS - 1 })
const which = fc.nat({ max: 20 })
export const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant('revoke' as const), by: fc.nat({ max: MATCHES.length - 1 }) }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('check' as const), parent: fc.option(which) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('snapshot' as const) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('delta' as const), v: verifier }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('live' as const) }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('ask' as const), v: verifier }) },
  { weight: 6, arbitrary: fc.record({ op: fc.constant('hear' as const), v: verifier, which }) },
  { weight: 8, arbitrary: fc.record({ op: fc.constant('deliver' as const), v: verifier, which }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('pass' as const), ms: fc.constantFrom(0, 900, 2100, 40_000) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('restart' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('verifierRestarts' as const), v: verifier, kept: fc.boolean() }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('connected' as const), v: verifier }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('generation' as const) }) },
)
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

interface Entry {
  readonly match: HopFacts
  /** How many entries there were before it. */
  readonly order: number
  acked: number | undefined
}
interface Token {
  readonly hops: readonly CheckedHop[]
  /** How many entries there were when each was checked. */
  readonly orders: readonly number[]
  readonly parent: Token | undefined
}

const kills = ({ match, order }: Entry, { hops, orders }: Token): boolean =>
  hops.some(
    ({ facts }, at) =>
      orders[at]! <= order &&
      Object.entries(match).every(([dimension, value]) => facts[dimension as keyof HopFacts] === value),
  )

const signing = keyPair()
const feedKey = { alg: 'ES256' as const, jwk: signing.jwk, key: createPublicKey(signing.privateKey) }
const jwks: Jwks = {
  known: () => undefined,
  find: async () => ({ ok: true, value: feedKey }),
  announced: () => undefined,
  kids: () => [],
}

export async function followed(
  scheduler: fc.Scheduler,
  steps: readonly Step[],
  said: Map<string, number>,
): Promise<void> {
  const turn = (label: string) => scheduler.schedule(Promise.resolve(), label)
  const log = createFakeLog()
  const entries: Entry[] = []
  const tokens: Token[] = []
  const frames: FeedFrame[] = []
  let ms = 0
  let runs = 0
  let nonces = 0
  let generations = 0
  let feed: Feed
  const feeds: Feed[] = []

  const deliverable = async (text: string): Promise<void> => {
    const frame = await readFrame(text, { issuer: ISSUER, jwks })
    if (!frame) throw new Error('not a frame')
    frames.push(frame)
  }
  function start(): void {
    runs += 1
    // The clocks of two processes have nothing to do with one another.
    const begun = ms - 1_000_000 / runs
    feed = createFeed({
      log: {
        epoch: async () => {
          await turn('the epoch is read')
          return log.epoch()
        },
        after: async (epoch) => {
          await turn('entries are read')
          return log.after(epoch)
        },
        onAdded: log.onAdded,
      },
      sign: async (typ, payload) => {
        const jws = signEs256(signing.privateKey, { typ, kid: 'feed' }, payload)
        await turn('signed')
        return { jws }
      },
      feedKey: FEED_KEY,
      issuer: ISSUER,
      now: () => START + Math.floor(ms / 1000),
      monotonic: () => ms - begun,
      newRunId: () => `run-${runs}`,
    })
    feeds.push(feed)
    feed.subscribe(({ frame }) => deliverable(frame))
  }
  const newState = (restored?: ReturnType<FeedState['kept']>): FeedState =>
    createFeedState({
      feedKey: FEED_KEY,
      keyId: feedKeyId(FEED_KEY),
      monotonic: () => ms + 5_000_000,
      restored: restored && { ...restored, entries: [...restored.entries] },
    })
  const verifiers = Array.from({ length: VERIFIERS }, () => ({
    state: newState(),
    answers: [] as Statement[],
    refused: new Set<Token>(),
  }))

  /** Every verifier is asked about every token. */
  function look(): void {
    for (const [v, { state, refused }] of verifiers.entries())
      for (const [index, token] of tokens.entries()) {
        const { kind } = state.verdict(token.hops, BOUND_SECONDS)
        said.set(kind, (said.get(kind) ?? 0) + 1)
        const parentDead = token.parent && state.verdict(token.parent.hops, BOUND_SECONDS).kind === 'dead'
        if (kind === 'dead') {
          refused.add(token)
          if (generations === 0 && !entries.some((entry) => kills(entry, token)))
            throw new Error(`breaks R4: verifier ${v} refuses token ${index}, which no entry kills`)
        }
        if (kind !== 'live') continue
        const killer = entries.find(
          (entry) => entry.acked !== undefined && ms > entry.acked + BOUND_SECONDS * 1000 && kills(entry, token),
        )
        if (killer)
          throw new Error(`breaks R1: verifier ${v} accepts token ${index} at ${ms}, killed since ${killer.acked}`)
        if (refused.has(token)) throw new Error(`breaks R2: verifier ${v} refused token ${index}, and accepts it`)
        if (parentDead)
          throw new Error(`breaks R3: verifier ${v} accepts token ${index}, whose parent it holds for dead`)
      }
  }

  async function take(one: Step): Promise<void> {
    await turn(one.op)
    switch (one.op) {
      case 'revoke': {
        const entry: Entry = { match: MATCHES[one.by]!, order: entries.length, acked: undefined }
        entries.push(entry)
        await log.add(revocation(entry.match, { expiresAt: START + 86_400 }))
        await turn('acknowledged')
        entry.acked = ms
        return
      }
      case 'check': {
        const parent = one.parent === null ? undefined : tokens[one.parent % Math.max(1, tokens.length)]
        const order = entries.length
        const { epoch, dead } = await log.check({ hops: parent?.hops ?? [] })
        if (dead || (parent && parent.hops.length >= AGENTS.length)) return
        const depth = parent?.hops.length ?? 0
        const facts = { client_id: AGENTS[depth]!, task: `task_${depth}`, aud: 'tickets' }
        await turn('signature')
        tokens.push({
          hops: [{ facts, rev: epoch }, ...(parent?.hops ?? [])],
          orders: [order, ...(parent?.orders ?? [])],
          parent,
        })
        return
      }
      case 'snapshot':
        return feed.snapshot().then(({ frame }) => deliverable(frame), away)
      case 'delta': {
        const after: Epoch | undefined = verifiers[one.v]!.state.epoch()
        return (after ? feed.delta(after) : feed.snapshot()).then(({ frame }) => deliverable(frame), away)
      }
      case 'live':
        return feed.tell()
      case 'ask': {
        const { state, answers } = verifiers[one.v]!
        const nonce = `nonce-${String(++nonces).padStart(16, '0')}`
        state.asked(nonce)
        const statement = await readStatement(await feed.statement(nonce), { issuer: ISSUER, jwks })
        answers.push(statement!)
        return
      }
      case 'hear': {
        const { state, answers } = verifiers[one.v]!
        const statement = answers[one.which % Math.max(1, answers.length)]
        if (statement) state.statement(statement)
        return
      }
      case 'deliver': {
        const frame = frames[one.which % Math.max(1, frames.length)]
        if (frame) verifiers[one.v]!.state.frame(frame)
        return
      }
      case 'pass':
        ms += one.ms
        return
      case 'restart':
        feed.close()
        return start()
      case 'verifierRestarts': {
        const each = verifiers[one.v]!
        each.state = newState(one.kept ? each.state.kept() : undefined)
        return
      }
      case 'connected':
        return verifiers[one.v]!.state.connected()
      case 'generation':
        generations += 1
        return log.newGeneration()
    }
  }

  try {
    start()
    // Somebody has a token, and everybody has followed for a while: what is random begins where it gets interesting.
    const begin: Step[] = [{ op: 'check', parent: null }, { op: 'snapshot' }]
    for (let v = 0; v < VERIFIERS; v++)
      begin.push({ op: 'ask', v }, { op: 'hear', v, which: 0 }, { op: 'deliver', v, which: 0 })
    for (const one of begin) await scheduler.waitFor(take(one))
    // Not all of it at once: the next few steps wait for the ones before, or nothing would ever be far along.
    for (let at = 0; at < steps.length; at += 8) {
      const some = Promise.all(
        steps.slice(at, at + 8).map(async (one) => {
          await take(one)
          look()
        }),
      )
      await scheduler.waitFor(some)
    }
    look()
    if (compareEpochs(await log.epoch(), { generation: 0, sequence: 0 }) < 0) throw new Error('the log went back')
  } finally {
    for (const each of feeds) each.close()
  }
}
