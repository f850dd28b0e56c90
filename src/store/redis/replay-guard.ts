/** Spent ids in Redis. They go by our clock, not by its time to live: a jump of its clock must not forget one. */
import { type ReplayGuard, refuseOlder } from '../../attest/replay-guard.ts'
import { type RedisClient, script, short } from './client.ts'

const KEPT_LONGER_SECONDS = 60

// Each spend clears away up to two that have expired, so the set shrinks faster than it grows.
const STEPS = `
local old = redis.call('ZRANGE', K .. 'spent', '-inf', '(' .. arg(3), 'BYSCORE', 'LIMIT', 0, 2)
if #old > 0 then redis.call('ZREM', K .. 'spent', unpack(old)) end
return {redis.call('ZADD', K .. 'spent', 'NX', arg(2), arg(1)) == 1 and 'first' or 'again'}
`
const SPEND = script(STEPS)
const SPEND_URGENT = script(STEPS, { critical: true })

export function createReplayGuard(deps: { redis: RedisClient; forgetBefore: () => number }): ReplayGuard {
  return {
    spend: async (id, expiresAt, urgent, issuedAt) => {
      refuseOlder(issuedAt, deps.redis.generation().openedAt)
      const values = [short(id), Math.ceil(expiresAt), deps.forgetBefore() - KEPT_LONGER_SECONDS]
      const reply = await deps.redis.run(urgent ? SPEND_URGENT : SPEND, values, 'replay_guard_unavailable')
      return reply[0] === 'first'
    },
  }
}
