/** One connection to Redis that answers within its time or not at all, and never runs late what was refused early. */
import { createHash } from 'node:crypto'
import { Redis, type RedisOptions } from 'ioredis'
import { type Reason, Unavailable } from '../../oauth/refusal.ts'
import { StoreFault } from '../fault.ts'
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

export interface Script {
  readonly source: string
  readonly sha: string
}

/** A reply that has the form every script of ours answers in: a word, then strings. */
export type Reply = readonly [string, ...string[]]

export interface RedisClient {
  /** Runs one script, once or not at all: what misses its time is refused by the script itself. */
  run(script: Script, values: readonly (string | number)[], reason?: Reason): Promise<Reply>
  readonly generation: number
  /** A second connection that hears what is published; `heard` is called for each message and after each reconnect. */
  listen(channel: string, heard: () => void): Promise<void>
  close(): void
}

/**
 * Every script gets the same head. `now` of the server serves to refuse what comes too late, and for nothing else: no
 * decision rests on its clock. The generation tells a Redis that lost its memory from one that never had any.
 * The script flags make a read-only replica, and a primary that cannot write its file, refuse reads as well.
 */
const HEAD = `
local K = KEYS[1]
local clock = redis.call('TIME')
if clock[1] * 1000 + clock[2] / 1000 > tonumber(ARGV[1]) then return {'late'} end
if redis.call('GET', K .. 'generation') ~= ARGV[2] then return {'lost'} end
local function arg(n) return ARGV[n + 2] end
local args = #ARGV - 2
`

/**
 * What a script writes stands in the append-only file as one transaction. Killed while it writes that, Redis drops it when
 * it starts again, but may leave its first part in the file, and a start after that runs this part together with the next
 * transaction, or loses all that was written singly in between (Redis 7; Valkey until its pull request 4342).
 * Hence SETTLE, before anything else is written, and hence the order in which our scripts write: a first part of one,
 * run without the rest and before what came later, is harmless, and what marks it as done is written last.
 */
const SETTLE = script("redis.call('INCR', K .. 'settled') redis.call('INCR', K .. 'settled') return {'done'}", {
  critical: true,
})

/** `critical`: allowed above the memory limit too, so that revoking works when nothing else does. */
export function script(body: string, options: { critical?: boolean } = {}): Script {
  const source = `#!lua${options.critical ? ' flags=allow-oom' : ''}\n${HEAD}${body}`
  return { source, sha: createHash('sha1').update(source).digest('hex') }
}

export async function openRedisClient(deps: {
  url: string
  prefix: string
  /** Whether a Redis that holds nothing is a beginning, and not a loss. */
  mayBegin: boolean
  monotonic: () => number
}): Promise<RedisClient> {
  const { monotonic } = deps
  if (!/^[A-Za-z0-9_.-]{1,64}$/.test(deps.prefix)) {
    throw new StoreFault('unsafe_store_config', 'the prefix of the Redis keys is 1 to 64 letters, digits, _ . -')
  }
  // The braces keep all keys of one service in one slot of a cluster, so that a script may touch any of them.
  const base = `{${deps.prefix}}:`
  const redis = new Redis(deps.url, CLIENT_OPTIONS)
  const listeners: Redis[] = []
  // Without a listener an 'error' event ends the process; what it says comes back from each command.
  redis.on('error', () => undefined)

  /** What is known of the server on this connection; absent until it has been looked at. */
  let session: { readonly clockAhead: number; readonly generation: string } | undefined
  let connection = 0
  let closed = false
  let gathering: Redis['stream'] | undefined

  async function measureClock(): Promise<number> {
    const [seconds, micros] = (await redis.time()).map(Number)
    if (!Number.isFinite(seconds) || !Number.isFinite(micros)) throw new Error('unexpected answer to TIME')
    return Number(seconds) * 1000 + Number(micros) / 1000 - monotonic()
  }

  async function prepare(): Promise<void> {
    await inspectServer(redis)
    if (deps.mayBegin) await redis.setnx(`${base}generation`, '1')
    const generation = await redis.get(`${base}generation`)
    if (generation === null && !deps.mayBegin) {
      throw new StoreFault(
        'data_damaged',
        'this data folder has an audit log, but Redis holds no state under this prefix: bring back its append-only file, or move the folder away to begin a new one',
      )
    }
    if (generation === null || !/^[1-9][0-9]{0,8}$/.test(generation)) throw new Error('unreadable generation')
    const clockAhead = await measureClock()
    await settle(clockAhead, generation)
    session = { clockAhead, generation }
  }

  /** A generation that is gone is left as it is found: every question will say so. */
  async function settle(clockAhead: number, generation: string): Promise<void> {
    const deadline = Math.floor(monotonic() + clockAhead + COMMAND_TIMEOUT_MS)
    const reply = await redis.eval(SETTLE.source, 1, base, deadline, generation)
    if (!isReply(reply) || reply[0] === 'late') throw new Error('Redis was too slow')
  }

  redis.on('close', () => {
    session = undefined
    connection += 1
  })

  try {
    await redis.connect()
    await prepare()
  } catch (error) {
    redis.disconnect()
    if (error instanceof StoreFault) throw error
    // The URL may hold a password: it is not repeated.
    throw new StoreFault('store_unreachable', `Redis cannot be reached or used: ${messageOf(error)}`, { cause: error })
  }
  const generation = session!.generation

  redis.on('ready', () => {
    const mine = connection
    // Of this generation or not at all: a Redis that came back empty must not look as if it were whole.
    inspectServer(redis)
      .then(measureClock)
      .then((clockAhead) => settle(clockAhead, generation).then(() => clockAhead))
      .then((clockAhead) => {
        if (mine === connection) session = { clockAhead, generation }
      })
      .catch(() => {
        if (mine === connection) redis.disconnect(true)
      })
  })

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

  async function once(one: Script, values: readonly (string | number)[], reason: Reason): Promise<Reply> {
    const known = session
    if (closed || !known || redis.status !== 'ready') throw away(reason, 'Redis is away')
    const deadline = Math.floor(monotonic() + known.clockAhead + COMMAND_TIMEOUT_MS)
    const rest = [base, deadline, generation, ...values]
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
      if (messageOf(error) === 'Command timed out' && session === known) {
        session = undefined
        redis.disconnect(true)
      }
      throw away(reason, `Redis did not do it: ${messageOf(error)}`, error)
    }
  }

  return {
    generation: Number(generation),
    run: async (one, values, reason = 'store_unavailable') => {
      let reply = await once(one, values, reason)
      if (reply[0] === 'late' && session) {
        // Nothing was done. Either it was late, or the server's clock has jumped: measure it and try once more.
        const clockAhead = await measureClock().catch((error) => {
          throw away(reason, 'Redis did not answer', error)
        })
        session = session && { ...session, clockAhead }
        reply = await once(one, values, reason)
      }
      if (reply[0] === 'late') throw away(reason, 'Redis was too slow')
      if (reply[0] === 'lost') throw away('sealed', 'Redis is not the one that was opened: its generation is gone')
      return reply
    },
    listen: async (channel, heard) => {
      const ear = redis.duplicate()
      listeners.push(ear)
      ear.on('error', () => undefined)
      // ioredis subscribes again by itself; what was published meanwhile is read from the log.
      ear.on('ready', heard)
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

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const isReply = (reply: unknown): reply is Reply =>
  Array.isArray(reply) && reply.length > 0 && reply.every((item) => typeof item === 'string')
