/** Answers to be given again, in Redis. */
import type { IdempotencyStore, Remembered } from '../../exchange/idempotency.ts'
import { type RedisClient, script, short, unexpected } from './client.ts'

const CLAIM_LAPSES_AFTER_SECONDS = 10

const CLAIM = script(`
local key, digest, now, expires, lapses = K .. 'idem:' .. arg(1), arg(2), tonumber(arg(3)), arg(4), tonumber(arg(5))
for _, old in ipairs(redis.call('ZRANGE', K .. 'idem:expiry', '-inf', now, 'BYSCORE', 'LIMIT', 0, 4)) do
  redis.call('DEL', K .. 'idem:' .. old)
  redis.call('ZREM', K .. 'idem:expiry', old)
end
local known = redis.call('HMGET', key, 'digest', 'claimed', 'expires', 'result')
if known[1] and tonumber(known[3]) > now then
  if known[4] then return {'remembered', known[1], known[4]} end
  -- Only the same request takes over: should the first come back after all, its answer is of this digest.
  if known[1] ~= digest or now < tonumber(known[2]) + lapses then return {'in_progress', known[1]} end
end
redis.call('DEL', key)
redis.call('HSET', key, 'digest', digest, 'claimed', now, 'expires', expires)
redis.call('ZADD', K .. 'idem:expiry', expires, arg(1))
return {'claimed'}
`)

// The intent is in the audit log by now: its answer is remembered above the memory limit too.
const COMPLETE = script(
  `
local key = K .. 'idem:' .. arg(1)
if redis.call('EXISTS', key) == 1 then redis.call('HSETNX', key, 'result', arg(2)) end
return {'done'}
`,
  { critical: true },
)

const RELEASE = script(
  `
local key = K .. 'idem:' .. arg(1)
if redis.call('HEXISTS', key, 'result') == 0 then
  redis.call('DEL', key)
  redis.call('ZREM', K .. 'idem:expiry', arg(1))
end
return {'done'}
`,
  { critical: true },
)

export function createIdempotencyStore(deps: { redis: RedisClient }): IdempotencyStore {
  const { redis } = deps
  return {
    claim: async (key, digest, now, expiresAt) => {
      const values = [short(key), digest, now, Math.ceil(expiresAt), CLAIM_LAPSES_AFTER_SECONDS]
      const reply = await redis.run(CLAIM, values)
      const [outcome, known, result] = reply
      if (outcome === 'claimed') return { outcome }
      if (outcome === 'in_progress' && known !== undefined) return { outcome, digest: known }
      if (outcome !== 'remembered' || known === undefined || result === undefined) throw unexpected(reply)
      const remembered = { digest: known, result: JSON.parse(result) as NonNullable<Remembered['result']> }
      return { outcome, remembered }
    },
    complete: async (key, result) => {
      await redis.run(COMPLETE, [short(key), JSON.stringify(result)])
    },
    release: async (key) => {
      await redis.run(RELEASE, [short(key)])
    },
  }
}
