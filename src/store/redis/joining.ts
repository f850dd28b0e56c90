/** Join tokens by their digests, and the keys that came with them, in Redis. */
import type { JoinedKey, Joining, JoinOffer, Redeemed } from '../../attest/joining.ts'
import { type RedisClient, script, unexpected } from './client.ts'

const KEPT_LONGER_SECONDS = 3600
/** A kid in here is a thumbprint; what strangers look for may be anything. */
const MAX_KID = 43

const OFFER = script(`
local old = redis.call('ZRANGE', K .. 'join:expiry', '-inf', '(' .. arg(4), 'BYSCORE', 'LIMIT', 0, 16)
if #old > 0 then
  redis.call('ZREM', K .. 'join:expiry', unpack(old))
  redis.call('HDEL', K .. 'join:offers', unpack(old))
  redis.call('HDEL', K .. 'join:used', unpack(old))
end
redis.call('HSET', K .. 'join:offers', arg(1), arg(2))
redis.call('ZADD', K .. 'join:expiry', arg(3), arg(1))
return {'offered'}
`)

const FIND = script(`
local offer = redis.call('HGET', K .. 'join:offers', arg(1))
if not offer then return {'none'} end
return {'found', offer, redis.call('HGET', K .. 'join:used', arg(1)) or ''}
`)

// One script is one step: of simultaneous calls one finds the token unused.
const REDEEM = script(`
local offer = redis.call('HGET', K .. 'join:offers', arg(1))
local expires = redis.call('ZSCORE', K .. 'join:expiry', arg(1))
if not offer or not expires or cjson.decode(offer).clientId ~= arg(3) then return {'unknown'} end
local name = arg(3) .. ' ' .. arg(2)
local used = redis.call('HGET', K .. 'join:used', arg(1))
if used then
  if used == arg(2) and redis.call('HEXISTS', K .. 'joined', name) == 1 then return {'again'} end
  return {'spent'}
end
if tonumber(arg(5)) >= tonumber(expires) then return {'expired'} end
redis.call('HSET', K .. 'join:used', arg(1), arg(2))
redis.call('SADD', K .. 'joined:of:' .. arg(3), arg(2))
redis.call('HSETNX', K .. 'joined', name, arg(4))
return {'joined'}
`)

const KEY = script(`
local key = redis.call('HGET', K .. 'joined', arg(1) .. ' ' .. arg(2))
if key then return {'found', key} end
return {'none'}
`)

const KEYS_OF = script(`
local found = {'keys'}
for _, kid in ipairs(redis.call('SMEMBERS', K .. 'joined:of:' .. arg(1))) do
  local key = redis.call('HGET', K .. 'joined', arg(1) .. ' ' .. kid)
  if key then found[#found + 1] = key end
end
return found
`)

const REMOVE = script(
  `
local removed = redis.call('HDEL', K .. 'joined', arg(1) .. ' ' .. arg(2))
redis.call('SREM', K .. 'joined:of:' .. arg(1), arg(2))
return {removed == 1 and 'removed' or 'none'}
`,
  { critical: true },
)

const REDEEMED: readonly string[] = ['joined', 'again', 'spent', 'expired', 'unknown'] satisfies Redeemed[]

export function createJoining(deps: { redis: RedisClient; forgetBefore: () => number }): Joining {
  const { redis, forgetBefore } = deps
  return {
    offer: async (digest, offer) => {
      const before = forgetBefore() - KEPT_LONGER_SECONDS
      const reply = await redis.run(OFFER, [digest, JSON.stringify(offer), offer.expiresAt, before])
      if (reply[0] !== 'offered') throw unexpected(reply)
    },
    find: async (digest) => {
      const reply = await redis.run(FIND, [digest])
      if (reply[0] === 'none') return undefined
      if (reply[0] !== 'found' || reply[1] === undefined) throw unexpected(reply)
      return { ...(JSON.parse(reply[1]) as JoinOffer), ...(reply[2] ? { usedBy: reply[2] } : {}) }
    },
    redeem: async (digest, key, now) => {
      const reply = await redis.run(REDEEM, [digest, key.kid, key.clientId, JSON.stringify(key), Math.floor(now)])
      if (!REDEEMED.includes(reply[0])) throw unexpected(reply)
      return reply[0] as Redeemed
    },
    keysOf: async (clientId) => {
      const reply = await redis.run(KEYS_OF, [clientId])
      if (reply[0] !== 'keys') throw unexpected(reply)
      const keys = reply.slice(1).map((text) => JSON.parse(text) as JoinedKey)
      return keys.sort((a, b) => a.joinedAt - b.joinedAt || (a.kid < b.kid ? -1 : 1))
    },
    key: async (clientId, kid) => {
      if (kid.length > MAX_KID) return undefined
      const reply = await redis.run(KEY, [clientId, kid])
      if (reply[0] === 'none') return undefined
      if (reply[0] !== 'found' || reply[1] === undefined) throw unexpected(reply)
      return JSON.parse(reply[1]) as JoinedKey
    },
    remove: async (clientId, kid) =>
      kid.length <= MAX_KID && (await redis.run(REMOVE, [clientId, kid]))[0] === 'removed',
  }
}
