/** What previews have pinned, in Redis: the pin by its digest, why it was used, and which are not carried out yet. */
import { type Pin, BULK_PIN_KNOWN_SECONDS, type BulkPins, type PinSpent } from '../../revoke/bulk-pins.ts'
import { type RedisClient, script, unexpected } from './client.ts'

/** digest, pin, expires, what may be forgotten. */
const OFFER_STEPS = `
local old = redis.call('ZRANGE', K .. 'bulkpins:expiry', '-inf', '(' .. arg(4), 'BYSCORE', 'LIMIT', 0, 16)
for _, digest in ipairs(old) do
  if redis.call('SISMEMBER', K .. 'bulkpins:open', digest) == 0 then
    redis.call('HDEL', K .. 'bulkpins:used', digest)
    redis.call('HDEL', K .. 'bulkpins', digest)
    redis.call('ZREM', K .. 'bulkpins:expiry', digest)
  end
end
if redis.call('HEXISTS', K .. 'bulkpins:used', arg(1)) == 1 then return {'offered'} end
redis.call('ZADD', K .. 'bulkpins:expiry', arg(3), arg(1))
redis.call('HSET', K .. 'bulkpins', arg(1), arg(2))
return {'offered'}
`
const OFFER = script(OFFER_STEPS)
const OFFER_CONFIRMED = script(OFFER_STEPS, { critical: true })

// One script is one step: of simultaneous calls one finds it unused. It is open before it is used: a step that was cut
// short is carried out, or may be asked for again.
const SPEND = script(
  `
local text = redis.call('HGET', K .. 'bulkpins', arg(1))
local pin = text and cjson.decode(text)
if not pin or pin.by ~= arg(2) then return {'unknown'} end
local reason = redis.call('HGET', K .. 'bulkpins:used', arg(1))
if reason then
  if redis.call('SISMEMBER', K .. 'bulkpins:open', arg(1)) == 1 then return {'begun', text, reason} end
  return {'used', pin.revocation}
end
if tonumber(arg(4)) >= pin.expiresAt then return {'expired'} end
if arg(5) == 'look' then return {'spent', text} end
redis.call('SADD', K .. 'bulkpins:open', arg(1))
redis.call('HSET', K .. 'bulkpins:used', arg(1), arg(3))
return {'spent', text}
`,
  { critical: true },
)

const DONE = script(
  `
redis.call('SREM', K .. 'bulkpins:open', arg(1))
return {'done'}
`,
  { critical: true },
)

const UNFINISHED = script(
  `
local answer = {'open'}
for _, digest in ipairs(redis.call('SMEMBERS', K .. 'bulkpins:open')) do
  local text = redis.call('HGET', K .. 'bulkpins', digest)
  local reason = redis.call('HGET', K .. 'bulkpins:used', digest)
  if text and reason then
    for _, part in ipairs({digest, text, reason}) do answer[#answer + 1] = part end
  end
end
return answer
`,
  { critical: true },
)

export function createBulkPins(deps: { redis: RedisClient; forgetBefore: () => number }): BulkPins {
  const { redis, forgetBefore } = deps
  async function spend(values: readonly (string | number)[]): Promise<PinSpent> {
    const reply = await redis.run(SPEND, values)
    const [outcome, text = '', before = ''] = reply
    if (outcome === 'spent') return { outcome, pin: JSON.parse(text) as Pin }
    if (outcome === 'begun') return { outcome, pin: { ...(JSON.parse(text) as Pin), reason: before } }
    if (outcome === 'used') return { outcome, revocation: text }
    if (outcome === 'expired' || outcome === 'unknown') return { outcome }
    throw unexpected(reply)
  }

  return {
    offer: async (digest, pin) => {
      const before = forgetBefore() - BULK_PIN_KNOWN_SECONDS
      const reply = await redis.run(pin.confirmedBy === undefined ? OFFER : OFFER_CONFIRMED, [
        digest,
        JSON.stringify(pin),
        pin.expiresAt,
        before,
      ])
      if (reply[0] !== 'offered') throw unexpected(reply)
    },
    spend: (digest, by, reason, now) => spend([digest, by, reason, now]),
    look: (digest, by, now) => spend([digest, by, '', now, 'look']),
    done: async (digest) => {
      const reply = await redis.run(DONE, [digest])
      if (reply[0] !== 'done') throw unexpected(reply)
    },
    unfinished: async () => {
      const reply = await redis.run(UNFINISHED, [])
      if (reply[0] !== 'open' || (reply.length - 1) % 3 !== 0) throw unexpected(reply)
      const found: { digest: string; pin: Pin & { reason: string } }[] = []
      for (let at = 1; at < reply.length; at += 3) {
        const [digest = '', text = '', reason = ''] = reply.slice(at, at + 3)
        found.push({ digest, pin: { ...(JSON.parse(text) as Pin), reason } })
      }
      return found
    },
  }
}
