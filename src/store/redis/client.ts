/** One connection to Redis that answers within its time or not at all, and never runs late what was refused early. */
import { createHash } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import type { Redis, RedisOptions } from 'ioredis'
import { type Reason, Unavailable } from '../../oauth/refusal.ts'
import type { SealEvent, StoreSeal } from '../../revoke/store-seal.ts'
import { StoreFault } from '../fault.ts'
import { connectTo, type RedisPlace } from './connect.ts'
import { createGenerations, type Generation, openOn, type Roster } from './generation.ts'
import { inspectServer } from './server-check.ts'

/** An honest error comes within this. */
const COMMAND_TIMEOUT_MS = 400

/**
 * ioredis by itself resends commands after a reconnect, queues them while it is offline and waits for ever on a stopped
 * server. All of these together keep it from doing so; any one alone does not.
 */
export const CLIENT_OPTIONS = {
  autoResendUnfulfilledCommands: false,
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  commandTimeout: COMMAND_TIMEOUT_MS,
  connectTimeout: 1000,
  disconnectTimeout: 100,
  lazyConnect: true,
  enableReadyCheck: true,
  retryStrategy: (attempt: number) => Math.min(50 * 2 ** Math.min(attempt, 5), 1000),
  // A primary that became a replica refuses scripts: find the new one.
  reconnectOnError: (error: Error) => error.message.startsWith('READONLY'),
} satisfies RedisOptions & { disconnectTimeout: number }

interface Session {
  readonly clockAhead: number
  /** Of the generation, or of its seal. */
  readonly text: string
}

export interface Script {
  readonly source: string
  readonly sha: string
}

/** A reply that has the form every script of ours answers in: a word, then strings. */
export type Reply = readonly [string, ...string[]]

export type Run = (script: Script, values: readonly (string | number)[], reason?: Reason) => Promise<Reply>

export interface RedisClient {
  /** Runs one script, once or not at all: what misses its time is refused by the script itself. */
  readonly run: Run
  /** The one that was opened last. */
  generation(): Generation
  /** Another was opened; told before anything of it is answered. */
  onOpened(listener: (generation: Generation) => void): void
  /** It does not hold what it should: sealed for all, and opened anew. */
  distrust(why: StoreSeal['why']): void
  /** Resolves when it is open, and throws the fault that a start ends with where others are waited for in vain. */
  whole(): Promise<void>
  /** Why nothing is answered for now; undefined where it is open, or merely away. */
  seal(): StoreSeal | undefined
  /** A second connection that hears what is published; `heard` is called for each message and after each reconnect. */
  listen(channel: string, heard: () => void): Promise<void>
  close(): void
}

/** What a process does while the store is sealed. */
export interface GivingBack {
  readonly roster: () => Roster
  /** Of this process; the next lies above. */
  readonly leastGeneration: () => number
  /** Adds what is missing, by `run`. */
  readonly giveBack: (run: Run, generation: number) => Promise<void>
  /** Ends what those may have ended whose records are lost. */
  readonly endEverything: (run: Run, generation: number, lost: readonly string[]) => Promise<void>
  readonly told: (event: SealEvent) => void
}

/** How long a start waits for the other processes. */
const START_PATIENCE_MS = 10_000
const ASK_AGAIN_MS = 100
const GIVEN_UP_PAUSE_MS = 200

/**
 * Every script gets the same head. `now` of the server serves to refuse what comes too late, and for nothing else: no
 * decision rests on its clock. The generation tells a Redis that lost its memory from one that never had any, and a run of the
 * server that has been given back what it lost from one that has not.
 * The script flags make a read-only replica, and a primary that cannot write its file, refuse reads as well.
 */
const HEAD = `
local K = KEYS[1]
local clock = redis.call('TIME')
if clock[1] * 1000 + clock[2] / 1000 > tonumber(ARGV[1]) then return {'late'} end
if redis.call('GET', K .. 'generation') ~= ARGV[2] then return {'lost'} end
local function arg(n) return ARGV[n + 2] end
local args = #ARGV - 2
local function generation_number() return string.match(ARGV[2], '%d+') end
`

/**
 * What a script writes stands in the append-only file as one transaction. Killed while it writes that, Redis drops it when
 * it starts again, but may leave its first part in the file, and a start after that runs this part together with the next
 * transaction, or loses all that was written singly in between (Redis 7; Valkey until its pull request 4342).
 * Hence SETTLE, before anything else is written, and hence the order in which our scripts write: a first part of one,
 * run without the rest and before what came later, is harmless, and what marks it as done is written last.
 */
const SETTLE = `#!lua flags=allow-oom
redis.call('INCR', KEYS[1] .. 'settled') redis.call('INCR', KEYS[1] .. 'settled')`

/** `critical`: allowed above the memory limit too, so that revoking works when nothing else does. */
export function script(body: string, options: { critical?: boolean } = {}): Script {
  const source = `#!lua${options.critical ? ' flags=allow-oom' : ''}\n${HEAD}${body}`
  return { source, sha: createHash('sha1').update(source).digest('hex') }
}

export async function openRedisClient(
  deps: RedisPlace & {
    /** Whether a Redis that holds nothing is a beginning, and not a loss. */
    mayBegin: boolean
    givingBack: GivingBack
    now: () => number
    monotonic: () => number
  },
): Promise<RedisClient> {
  const { monotonic, givingBack } = deps
  if (!/^[A-Za-z0-9_.-]{1,64}$/.test(deps.prefix)) {
    throw new StoreFault('unsafe_store_config', 'the prefix of the Redis keys is 1 to 64 letters, digits, _ . -')
  }
  // The braces keep all keys of one service in one slot of a cluster, so that a script may touch any of them.
  const base = `{${deps.prefix}}:`
  const redis = connectTo(deps, CLIENT_OPTIONS)
  const generations = createGenerations({ redis, base })
  const listeners: Redis[] = []
  const openedListeners: ((generation: Generation) => void)[] = []
  // Without a listener an 'error' event ends the process; what it says comes back from each command.
  redis.on('error', () => undefined)

  /** What is known of the server on this connection; absent until it has been looked at, and while it is sealed. */
  let session: Session | undefined
  let last: Generation | undefined
  let seal: StoreSeal | undefined
  let distrusted: { readonly text: string; readonly why: StoreSeal['why'] } | undefined
  let connection = 0
  let closed = false
  let gathering: Redis['stream'] | undefined

  async function measureClock(): Promise<number> {
    const [seconds, micros] = (await redis.time()).map(Number)
    if (!Number.isFinite(seconds) || !Number.isFinite(micros)) throw new Error('unexpected answer to TIME')
    return Number(seconds) * 1000 + Number(micros) / 1000 - monotonic()
  }

  /** Of this run of the server or not at all; false where the connection went meanwhile. */
  async function establish(patienceMs = Number.POSITIVE_INFINITY): Promise<boolean> {
    const mine = connection
    const begun = monotonic()
    const run = await inspectServer(redis)
    const clockAhead = await measureClock()
    await redis.eval(SETTLE, 1, base)
    const least = givingBack.leastGeneration()
    let opened = openOn(run, await generations.read())
    // One from before what this process knows of has come back from somewhere.
    const stale = opened && opened.number < least ? opened.text : distrusted?.text
    if (opened?.text === stale) opened = undefined
    let without: readonly string[] = []
    for (let first = true; !opened; first = false) {
      if (mine !== connection || closed) return false
      const sealed = await generations.seal(run, first ? least : 0, stale ?? '', givingBack.roster())
      opened = sealed.opened
      if (opened) break
      sealNow([])
      const under: Session = { clockAhead, text: sealed.text }
      const number = Number(sealed.text.split(':')[1])
      const through: Run = (one, values, reason = 'sealed') => once(under, one, values, reason)
      await givingBack.giveBack(through, number)
      let { word, rest } = await generations.givenBack(sealed.text, givingBack.roster().id, deps.now(), false)
      if (word === 'lost') {
        without = rest
        await givingBack.endEverything(through, number, rest)
        ;({ word, rest } = await generations.givenBack(sealed.text, givingBack.roster().id, deps.now(), true))
      }
      if (word === 'open') opened = openOn(run, rest[0] ?? null)
      if (opened) break
      sealNow(rest)
      if (monotonic() - begun > patienceMs) throw waitingFor(rest)
      await pause(ASK_AGAIN_MS)
    }
    const next: Session = { clockAhead, text: opened.text }
    if (mine !== connection || closed) return false
    if (seal) {
      const seconds = deps.now() - seal.since
      givingBack.told({ event: 'unsealed', generation: opened.number, seconds, without })
    }
    seal = undefined
    distrusted = undefined
    if (last?.text !== opened.text) {
      last = opened
      for (const listener of openedListeners) listener(opened)
    }
    session = next
    return true
  }

  function sealNow(missing: readonly string[]): void {
    const before = seal
    seal = { why: distrusted?.why ?? 'replaced', since: before?.since ?? deps.now(), missing }
    if (!before) givingBack.told({ event: 'sealed', why: seal.why })
  }

  let establishing: Promise<unknown> | undefined
  function establishAgain(): void {
    const mine = connection
    const one: Promise<unknown> = establish()
      .then((done) => done || closed || mine !== connection || establishAgain())
      .catch(() => {
        if (mine === connection && !closed) redis.disconnect(true)
      })
      .finally(() => {
        if (establishing === one) establishing = undefined
      })
    establishing = one
  }

  /** ioredis gives up for good where it hears of a fail-over while it looks for the primary. */
  function keepTrying(one: Redis): void {
    one.on('end', () => {
      const again = setTimeout(() => closed || one.connect().catch(() => undefined), GIVEN_UP_PAUSE_MS)
      again.unref()
    })
  }
  keepTrying(redis)
  redis.on('close', () => {
    session = undefined
    connection += 1
  })

  try {
    await redis.connect()
    const run = await inspectServer(redis)
    if (deps.mayBegin) await generations.begin(run)
    else if ((await generations.read()) === null) {
      throw new StoreFault(
        'data_damaged',
        'this data folder has an audit log, but Redis holds no state under this prefix: bring back its append-only file; or `errand restore`, which gives back what the data folders hold; or move the folder away to begin a new one',
      )
    }
    if (!(await establish(START_PATIENCE_MS))) throw new Error('the connection was lost')
  } catch (error) {
    redis.disconnect()
    closed = true
    if (error instanceof StoreFault) throw error
    // The URL may hold a password: it is not repeated.
    throw new StoreFault('store_unreachable', `Redis cannot be reached or used: ${messageOf(error)}`, { cause: error })
  }
  redis.on('ready', establishAgain)

  /** It is not the generation that it was: opened anew by another process, or by this one now. */
  function lookAgain(): void {
    session = undefined
    sealNow([])
    if (!establishing) establishAgain()
  }

  /**
   * What is asked in one turn of the loop leaves in one write: under load that is what most of a command costs. Not by
   * ioredis' own pipelines: here each command keeps its promise, its time-out and its error to itself.
   */
  function gather(): void {
    const { stream } = redis
    if (stream === gathering) return
    gathering = stream
    stream.cork()
    setImmediate(() => {
      if (gathering === stream) gathering = undefined
      stream.uncork()
    })
  }

  async function once(
    known: Session,
    one: Script,
    values: readonly (string | number)[],
    reason: Reason,
  ): Promise<Reply> {
    const deadline = Math.floor(monotonic() + known.clockAhead + COMMAND_TIMEOUT_MS)
    const rest = [base, deadline, known.text, ...values]
    gather()
    try {
      let reply: unknown
      try {
        reply = await redis.evalsha(one.sha, 1, ...rest)
      } catch (error) {
        if (!messageOf(error).startsWith('NOSCRIPT')) throw error
        reply = await redis.eval(one.source, 1, ...rest)
      }
      if (!isReply(reply)) throw new Error('unexpected form of reply')
      return reply
    } catch (error) {
      // What is written to a stalled connection would be read when it wakes.
      if (messageOf(error) === 'Command timed out' && (session === known || session === undefined)) {
        session = undefined
        redis.disconnect(true)
      }
      throw away(reason, `Redis did not do it: ${messageOf(error)}`, error)
    }
  }

  const sealedNow = () => away('sealed', 'Redis was replaced, and is not whole again yet')

  function opened(reason: Reason): Session {
    if (session && !closed && redis.status === 'ready') return session
    throw seal && !closed ? sealedNow() : away(reason, 'Redis is away')
  }

  return {
    run: async (one, values, reason = 'store_unavailable') => {
      const known = opened(reason)
      let reply = await once(known, one, values, reason)
      if (reply[0] === 'late' && session) {
        // Nothing was done. Either it was late, or the server's clock has jumped: measure it and try once more.
        const clockAhead = await measureClock().catch((error) => {
          throw away(reason, 'Redis did not answer', error)
        })
        session = session && { ...session, clockAhead }
        reply = await once(opened(reason), one, values, reason)
      }
      if (reply[0] === 'late') throw away(reason, 'Redis was too slow')
      if (reply[0] === 'lost') {
        if (session?.text === known.text) lookAgain()
        throw sealedNow()
      }
      return reply
    },
    generation: () => last!,
    onOpened: (listener) => {
      openedListeners.push(listener)
    },
    distrust: (why) => {
      if (!last || session?.text !== last.text) return
      distrusted = { text: last.text, why }
      lookAgain()
    },
    whole: async () => {
      for (const until = monotonic() + START_PATIENCE_MS; !session; await pause(ASK_AGAIN_MS))
        if (monotonic() > until) throw waitingFor(seal?.missing ?? [])
    },
    seal: () => seal,
    listen: async (channel, heard) => {
      const ear = redis.duplicate()
      listeners.push(ear)
      keepTrying(ear)
      ear.on('error', () => undefined)
      // What was published meanwhile is read from the log.
      ear.on('ready', () => {
        ear.subscribe(`${base}${channel}`).catch(() => undefined)
        heard()
      })
      ear.on('message', heard)
      await ear.connect()
      await ear.subscribe(`${base}${channel}`)
    },
    close: () => {
      closed = true
      for (const one of [redis, ...listeners]) one.disconnect()
    },
  }
}

/** Keys and members stay short; the letters keep hashed values from colliding with plain ones. */
export const short = (text: string): string =>
  text.length <= 128 ? `=${text}` : `#${createHash('sha256').update(text).digest('base64url')}`

/** A reply whose first word no caller knows is not an answer. */
export const unexpected = (reply: Reply): Unavailable => away('store_unavailable', `unexpected reply ${reply[0]}`)

const away = (reason: Reason, message: string, cause?: unknown): Unavailable =>
  new Unavailable(reason, message, cause === undefined ? {} : { cause })

const waitingFor = (missing: readonly string[]): StoreFault =>
  new StoreFault(
    'store_sealed',
    `Redis may have lost something, and waits for what these processes hold: ${missing.join(', ')}. Start them; or, for one that is lost for good, errand unseal --without <id>, which ends every token`,
  )

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const isReply = (reply: unknown): reply is Reply =>
  Array.isArray(reply) && reply.length > 0 && reply.every((item) => typeof item === 'string')
