/** What an administrator does to a Redis by hand, while the service waits: says that it is empty, or that nobody else comes. */
import type { Redis } from 'ioredis'
import { StoreFault } from '../fault.ts'
import { CLIENT_OPTIONS } from './client.ts'
import { connectTo, type RedisPlace } from './connect.ts'
import { inspectServer } from './server-check.ts'

async function at<T>(place: RedisPlace, use: (redis: Redis, base: string) => Promise<T>): Promise<T> {
  const redis = connectTo(place, { ...CLIENT_OPTIONS, retryStrategy: () => null })
  redis.on('error', () => undefined)
  try {
    await redis.connect()
    await inspectServer(redis)
    return await use(redis, `{${place.prefix}}:`)
  } catch (error) {
    if (error instanceof StoreFault) throw error
    // The URL may hold a password: it is not repeated.
    throw new StoreFault('store_unreachable', 'Redis cannot be reached or used', { cause: error })
  } finally {
    redis.disconnect()
  }
}

/** A Redis that holds nothing is a loss and no beginning: the next start gives back. False where it holds something. */
export const restoreRedis = (place: RedisPlace): Promise<boolean> =>
  at(place, async (redis, base) => (await redis.setnx(`${base}generation`, 'sealed:0:lost')) === 1)

export type Declared = 'declared' | 'not_sealed' | { readonly missing: readonly string[] }

/** The process of that id is not waited for. */
export const declareLost = (place: RedisPlace, id: string): Promise<Declared> =>
  at(place, async (redis, base) => {
    if (!(await redis.get(`${base}generation`))?.startsWith('sealed:')) return 'not_sealed'
    const roster = await redis.hgetall(`${base}roster`)
    const done = await redis.smembers(`${base}seal:done`)
    const missing = Object.entries(roster).filter(([each]) => !done.includes(each))
    if (!missing.some(([each]) => each === id))
      return { missing: missing.map(([each, name]) => (name === '' ? each : `${each} (${name})`)) }
    await redis.sadd(`${base}seal:without`, id)
    return 'declared'
  })
