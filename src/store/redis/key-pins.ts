/** Which proof key evidence belongs to, and which registration a SPIFFE id belongs to, in Redis. */
import type { KeyPins, PrincipalBindings } from '../../attest/key-pins.ts'
import { refuseOlder } from '../../attest/replay-guard.ts'
import { type RedisClient, script, short, unexpected } from './client.ts'

const KEPT_LONGER_SECONDS = 60
const MAX_KNOWN = 10_000

const PIN = script(`
local old = redis.call('ZRANGE', K .. 'pins:expiry', '-inf', '(' .. arg(4), 'BYSCORE', 'LIMIT', 0, 2)
if #old > 0 then
  redis.call('ZREM', K .. 'pins:expiry', unpack(old))
  redis.call('HDEL', K .. 'pins', unpack(old))
end
if redis.call('HEXISTS', K .. 'pins', arg(1)) == 0 then
  redis.call('ZADD', K .. 'pins:expiry', arg(3), arg(1))
  redis.call('HSET', K .. 'pins', arg(1), arg(2))
end
return {'pinned', redis.call('HGET', K .. 'pins', arg(1))}
`)

const PINNED = script(`return {'pinned', redis.call('HGET', K .. 'pins', arg(1)) or ''}`)

const SINCE = script(`
local bound = redis.call('HGET', K .. 'principals', arg(1))
local since = '0'
if bound then
  local at, client = string.match(bound, '^(%d+) (.*)$')
  if client == arg(2) then return {'since', at} end
  since = arg(3)
end
redis.call('HSET', K .. 'principals', arg(1), since .. ' ' .. arg(2))
return {'since', since}
`)

export function createKeyPins(deps: { redis: RedisClient; forgetBefore: () => number }): KeyPins {
  // What is pinned stays so until it is forgotten: the answer of a while ago is the answer of now, at every replica.
  const known = new Map<string, { readonly thumbprint: string; readonly expiresAt: number }>()
  return {
    pin: async (evidenceId, thumbprint, expiresAt, issuedAt) => {
      refuseOlder(issuedAt, deps.redis.generation().openedAt)
      const id = short(evidenceId)
      const before = deps.forgetBefore() - KEPT_LONGER_SECONDS
      const pinned = known.get(id)
      if (pinned && pinned.expiresAt >= before) return pinned.thumbprint
      const reply = await deps.redis.run(PIN, [id, thumbprint, Math.ceil(expiresAt), before])
      if (reply[0] !== 'pinned' || reply[1] === undefined) throw unexpected(reply)
      known.delete(id)
      if (known.size >= MAX_KNOWN) known.delete(known.keys().next().value!)
      known.set(id, { thumbprint: reply[1], expiresAt })
      return reply[1]
    },
    pinned: async (evidenceId) => {
      const reply = await deps.redis.run(PINNED, [short(evidenceId)])
      if (reply[0] !== 'pinned' || reply[1] === undefined) throw unexpected(reply)
      return reply[1] === '' ? undefined : reply[1]
    },
  }
}

export function createPrincipalBindings(deps: { redis: RedisClient }): PrincipalBindings {
  return {
    since: async (spiffeId, clientId, now) => {
      const reply = await deps.redis.run(SINCE, [short(spiffeId), clientId, Math.floor(now)])
      const since = Number(reply[1])
      if (reply[0] !== 'since' || !Number.isSafeInteger(since)) throw unexpected(reply)
      return since
    },
  }
}
