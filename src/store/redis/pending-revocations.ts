/** Revocations that wait for a second person, in Redis: each by its id, who confirmed it, and which are not carried out yet. */
import {
  PENDING_KNOWN_SECONDS,
  type PendingRevocation,
  type PendingRevocations,
} from '../../revoke/pending-revocations.ts'
import { type RedisClient, type Reply, script, unexpected } from './client.ts'

/** id, pending, expires, what may be forgotten. */
const ASK = script(
  `
local old = redis.call('ZRANGE', K .. 'pending:expiry', '-inf', '(' .. arg(4), 'BYSCORE', 'LIMIT', 0, 16)
for _, id in ipairs(old) do
  if redis.call('SISMEMBER', K .. 'pending:unfinished', id) == 0 then
    redis.call('HDEL', K .. 'pending:confirmed', id)
    redis.call('HDEL', K .. 'pending', id)
    redis.call('ZREM', K .. 'pending:expiry', id)
  end
end
if redis.call('HEXISTS', K .. 'pending', arg(1)) == 0 then
  redis.call('ZADD', K .. 'pending:expiry', arg(3), arg(1))
  redis.call('HSET', K .. 'pending', arg(1), arg(2))
end
return {'held', redis.call('HGET', K .. 'pending', arg(1)), redis.call('HGET', K .. 'pending:confirmed', arg(1)) or ''}
`,
  { critical: true },
)

const FIND = script(
  `
local text = redis.call('HGET', K .. 'pending', arg(1))
if not text then return {'unknown'} end
return {'held', text, redis.call('HGET', K .. 'pending:confirmed', arg(1)) or ''}
`,
  { critical: true },
)

// One script is one step: of simultaneous calls one finds it unconfirmed. It is unfinished before it is confirmed: a step
// that was cut short may be asked for again.
const CONFIRM = script(
  `
local text = redis.call('HGET', K .. 'pending', arg(1))
if not text then return {'unknown'} end
local pending = cjson.decode(text)
local confirmed = redis.call('HGET', K .. 'pending:confirmed', arg(1))
if confirmed and (confirmed ~= arg(2) or redis.call('SISMEMBER', K .. 'pending:unfinished', arg(1)) == 0) then
  return {'used', confirmed}
end
if pending.by == arg(2) then return {'own'} end
if not confirmed and tonumber(arg(3)) >= pending.expiresAt then return {'expired'} end
redis.call('SADD', K .. 'pending:unfinished', arg(1))
redis.call('HSET', K .. 'pending:confirmed', arg(1), arg(2))
return {'confirmed', text}
`,
  { critical: true },
)

const DONE = script(
  `
redis.call('SREM', K .. 'pending:unfinished', arg(1))
return {'done'}
`,
  { critical: true },
)

const OPEN = script(
  `
local answer = {'open'}
for _, id in ipairs(redis.call('ZRANGE', K .. 'pending:expiry', '(' .. arg(1), '+inf', 'BYSCORE')) do
  local text = redis.call('HGET', K .. 'pending', id)
  if text and redis.call('HEXISTS', K .. 'pending:confirmed', id) == 0 then answer[#answer + 1] = text end
end
return answer
`,
  { critical: true },
)

const UNFINISHED = script(
  `
local answer = {'unfinished'}
for _, id in ipairs(redis.call('SMEMBERS', K .. 'pending:unfinished')) do
  local text = redis.call('HGET', K .. 'pending', id)
  local confirmed = redis.call('HGET', K .. 'pending:confirmed', id)
  if text and confirmed then
    answer[#answer + 1] = text
    answer[#answer + 1] = confirmed
  end
end
return answer
`,
  { critical: true },
)

export function createPendingRevocations(deps: { redis: RedisClient; forgetBefore: () => number }): PendingRevocations {
  const { redis, forgetBefore } = deps
  const toPending = (text: string | undefined) => JSON.parse(text ?? '') as PendingRevocation
  const toHeld = ([, text, confirmedBy]: Reply) => ({
    pending: toPending(text),
    ...(confirmedBy ? { confirmedBy } : {}),
  })
  return {
    ask: async (pending) => {
      const before = forgetBefore() - PENDING_KNOWN_SECONDS
      const reply = await redis.run(ASK, [pending.id, JSON.stringify(pending), pending.expiresAt, before])
      if (reply[0] !== 'held') throw unexpected(reply)
      return toHeld(reply)
    },
    find: async (id) => {
      const reply = await redis.run(FIND, [id])
      if (reply[0] === 'unknown') return undefined
      if (reply[0] !== 'held') throw unexpected(reply)
      return toHeld(reply)
    },
    confirm: async (id, by, now) => {
      const reply = await redis.run(CONFIRM, [id, by, now])
      const [outcome, text = ''] = reply
      if (outcome === 'confirmed') return { outcome, pending: toPending(text) }
      if (outcome === 'used') return { outcome, by: text }
      if (outcome === 'own' || outcome === 'expired' || outcome === 'unknown') return { outcome }
      throw unexpected(reply)
    },
    done: async (id) => {
      const reply = await redis.run(DONE, [id])
      if (reply[0] !== 'done') throw unexpected(reply)
    },
    open: async (now) => {
      const reply = await redis.run(OPEN, [now])
      if (reply[0] !== 'open') throw unexpected(reply)
      return reply.slice(1).map(toPending)
    },
    unfinished: async () => {
      const reply = await redis.run(UNFINISHED, [])
      if (reply[0] !== 'unfinished' || reply.length % 2 !== 1) throw unexpected(reply)
      const texts = reply.slice(1)
      return texts.flatMap((text, index) =>
        index % 2 === 0 ? [{ pending: toPending(text), confirmedBy: texts[index + 1] ?? '' }] : [],
      )
    },
  }
}
