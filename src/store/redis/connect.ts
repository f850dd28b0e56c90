/** Where Redis is: one server by its URL, or whichever of several the Sentinels call the primary. */
import { Redis, type RedisOptions } from 'ioredis'

export interface RedisPlace {
  /** With `sentinels` its host is the name by which they know the primary. */
  readonly url: string
  readonly prefix: string
  /** `redis://` or `rediss://`, with user and password where they have them. */
  readonly sentinels?: readonly string[]
}

export function connectTo({ url, sentinels }: RedisPlace, options: Omit<RedisOptions, 'replyMapping'>): Redis {
  if (sentinels === undefined) return new Redis(url, options)
  const { hostname, pathname, protocol, username, password } = new URL(url)
  const watchers = sentinels.map((each) => new URL(each))
  const [first] = watchers
  const db = Number(pathname.slice(1))
  return new Redis({
    ...options,
    name: hostname,
    sentinels: watchers.map((each) => ({
      host: each.hostname.replace(/^\[|\]$/g, ''),
      port: Number(each.port || 26379),
    })),
    // Told of a fail-over, it leaves the old primary at once, whether that still answers or not.
    failoverDetector: true,
    sentinelCommandTimeout: 1000,
    sentinelRetryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 5), 1000),
    ...(db > 0 ? { db } : {}),
    ...named('username', username),
    ...named('password', password),
    ...(protocol === 'rediss:' ? { tls: {} } : {}),
    ...(first ? { ...named('sentinelUsername', first.username), ...named('sentinelPassword', first.password) } : {}),
    ...(first?.protocol === 'rediss:' ? { enableTLSForSentinelMode: true, sentinelTLS: {} } : {}),
  })
}

const named = (name: string, text: string): Readonly<Record<string, string>> =>
  text === '' ? {} : { [name]: decodeURIComponent(text) }
