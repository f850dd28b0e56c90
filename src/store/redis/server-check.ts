/** Refuses a Redis that could forget what it acknowledged (SECURITY-CASES M): no append-only file, or evicting. */
import type { Redis } from 'ioredis'
import { StoreFault } from '../fault.ts'

/** Answers which run of which server this is: another after each start, and after each promotion. */
export async function inspectServer(redis: Redis): Promise<string> {
  const server = fields(await redis.info('server'))
  const info = server.get('redis_version') ?? ''
  if (Number(info.split('.', 1)[0]) < 7) throw unsafe(`Redis 7 or later is needed, this is ${info || 'unknown'}`)
  // All keys of a service are in one slot: a cluster would have nothing to spread.
  if (server.get('redis_mode') === 'cluster')
    throw unsafe(
      'Redis Cluster is not supported: use one primary with replicas, watched by Sentinels (store.sentinels)',
    )
  const replication = fields(await redis.info('replication'))
  if (replication.get('role') !== 'master') throw unsafe('this Redis is a replica: decisions are never read from one')

  const found = (await configured(redis)) ?? (await reported(redis))
  if (found.get('appendonly') !== 'yes') throw unsafe('set `appendonly yes`: without it a restart forgets revocations')
  // Unknown where the ACL forbids CONFIG; then the operator answers for it.
  if (found.get('appendfsync') === 'no') throw unsafe('set `appendfsync everysec` or `always`')
  if (found.get('maxmemory-policy') !== 'noeviction') {
    throw unsafe('set `maxmemory-policy noeviction`: an evicted revocation is a revocation undone')
  }
  return `${server.get('run_id')}.${replication.get('master_replid')}`
}

async function configured(redis: Redis): Promise<ReadonlyMap<string, string> | undefined> {
  let reply: unknown
  try {
    reply = await redis.config('GET', 'append*', 'maxmemory-policy')
  } catch (error) {
    if (error instanceof Error && error.message.startsWith('NOPERM')) return undefined
    throw error
  }
  const pairs = new Map<string, string>()
  if (!Array.isArray(reply)) return pairs
  for (let index = 0; index + 1 < reply.length; index += 2) pairs.set(String(reply[index]), String(reply[index + 1]))
  return pairs
}

async function reported(redis: Redis): Promise<ReadonlyMap<string, string>> {
  const persistence = fields(await redis.info('persistence'))
  const memory = fields(await redis.info('memory'))
  return new Map([
    ['appendonly', persistence.get('aof_enabled') === '1' ? 'yes' : 'no'],
    ['maxmemory-policy', memory.get('maxmemory_policy') ?? 'unknown'],
  ])
}

function fields(text: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>()
  for (const line of text.split('\r\n')) {
    const colon = line.indexOf(':')
    if (colon > 0) found.set(line.slice(0, colon), line.slice(colon + 1))
  }
  return found
}

const unsafe = (message: string) => new StoreFault('unsafe_store_config', message)
