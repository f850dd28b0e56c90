/** Which index of which status list stands for which tokens, in Redis. */
import type { StatusRecord, StatusRegistry } from '../../revoke/status-registry.ts'
import { type RedisClient, type Reply, script, unexpected } from './client.ts'

const PAGE_SIZE = 500

/** Each change moves the index to the end of the order: whoever asks since a place is told of it. */
const MOVE = `
local function move(key)
  local place = redis.call('INCR', K .. 'status:place')
  redis.call('ZADD', K .. 'status:order', string.format('%.0f', place), key)
end
`

// How long first: without the record nobody has it, and with both it is taken, whatever else is lost.
/** key, until, record. */
const TAKE = script(`${MOVE}
if redis.call('HEXISTS', K .. 'status:records', arg(1)) == 1 then return {'taken'} end
redis.call('HDEL', K .. 'status:named', arg(1))
redis.call('ZADD', K .. 'status:until', arg(2), arg(1))
redis.call('HSET', K .. 'status:records', arg(1), arg(3))
move(arg(1))
return {'done'}
`)

/** key, until, group. */
const KEEP = script(`${MOVE}
local record = redis.call('HGET', K .. 'status:records', arg(1))
if not record or cjson.decode(record).group ~= arg(3) then return {'gone'} end
redis.call('ZADD', K .. 'status:until', 'GT', arg(2), arg(1))
move(arg(1))
return {'done'}
`)

/** jti, key, until. How long first: what has no end would never be forgotten. */
const ENTER = script(`
redis.call('ZADD', K .. 'status:tokens:until', arg(3), arg(1))
redis.call('HSET', K .. 'status:tokens', arg(1), arg(2))
return {'done'}
`)

/** jti. */
const NAME = script(
  `${MOVE}
local key = redis.call('HGET', K .. 'status:tokens', arg(1))
if not key or redis.call('HEXISTS', K .. 'status:records', key) == 0 then return {'gone'} end
local named = redis.call('HGET', K .. 'status:named', key) or ''
if not string.find(' ' .. named .. ' ', ' ' .. arg(1) .. ' ', 1, true) then
  redis.call('HSET', K .. 'status:named', key, named == '' and arg(1) or named .. ' ' .. arg(1))
  move(key)
end
return {'done', key}
`,
  { critical: true },
)

/** place, how many. Answers the last place that was looked at, then key, until, named and record of each. */
const SINCE = script(`
local keys = redis.call('ZRANGE', K .. 'status:order', '(' .. arg(1), '+inf', 'BYSCORE', 'LIMIT', 0, arg(2), 'WITHSCORES')
local answer = {'since', keys[#keys] or ''}
for n = 1, #keys, 2 do
  local record = redis.call('HGET', K .. 'status:records', keys[n])
  local ends = redis.call('ZSCORE', K .. 'status:until', keys[n])
  if record and ends then
    local named = redis.call('HGET', K .. 'status:named', keys[n]) or ''
    for _, part in ipairs({keys[n], ends, named, record}) do answer[#answer + 1] = part end
  end
end
return answer
`)

/** before. */
const FORGET = script(`
local old = redis.call('ZRANGE', K .. 'status:tokens:until', '-inf', '(' .. arg(1), 'BYSCORE', 'LIMIT', 0, 256)
for _, jti in ipairs(old) do
  redis.call('HDEL', K .. 'status:tokens', jti)
  redis.call('ZREM', K .. 'status:tokens:until', jti)
end
return {#old == 256 and 'more' or 'done'}
`)

/** before. The record last: until then the index is taken. */
const PRUNE = script(`
local old = redis.call('ZRANGE', K .. 'status:until', '-inf', '(' .. arg(1), 'BYSCORE', 'LIMIT', 0, 256)
for _, key in ipairs(old) do
  redis.call('ZREM', K .. 'status:order', key)
  redis.call('HDEL', K .. 'status:named', key)
  redis.call('HDEL', K .. 'status:records', key)
  redis.call('ZREM', K .. 'status:until', key)
end
return {#old == 256 and 'more' or 'done'}
`)

export function createStatusRegistry({ redis }: { redis: RedisClient }): StatusRegistry {
  const done = (reply: Reply, not: string): boolean => {
    if (reply[0] !== 'done' && reply[0] !== not) throw unexpected(reply)
    return reply[0] === 'done'
  }
  return {
    take: async ({ list, idx, until, named: _, ...rest }) =>
      done(await redis.run(TAKE, [keyOf(list, idx), until, JSON.stringify(rest)]), 'taken'),
    keep: async ({ list, idx, group }, until) => done(await redis.run(KEEP, [keyOf(list, idx), until, group]), 'gone'),
    enter: async (jti, list, idx, until) => {
      const reply = await redis.run(ENTER, [jti, keyOf(list, idx), until])
      if (reply[0] !== 'done') throw unexpected(reply)
    },
    name: async (jti) => {
      const reply = await redis.run(NAME, [jti])
      return done(reply, 'gone') ? placeOf(reply[1]) : undefined
    },
    since: async (from) => {
      const records: StatusRecord[] = []
      for (let place = from; ; ) {
        const reply = await redis.run(SINCE, [place, PAGE_SIZE])
        const [word, last, ...parts] = reply
        if (word !== 'since' || last === undefined || parts.length % 4 !== 0) throw unexpected(reply)
        for (let at = 0; at < parts.length; at += 4) records.push(toRecord(parts.slice(at, at + 4)))
        if (last === '') return { records, place }
        place = Number(last)
      }
    },
    prune: async (before) => {
      // The tokens first: of an index that is free, none may be left that would name it.
      for (const each of [FORGET, PRUNE]) while ((await redis.run(each, [before]))[0] === 'more');
    },
  }
}

const keyOf = (list: string, idx: number): string => `${list}:${idx}`

function placeOf(key = ''): Pick<StatusRecord, 'list' | 'idx'> {
  const [list = '', idx] = key.split(':')
  return { list, idx: Number(idx) }
}

function toRecord([key, until, named = '', record = '']: readonly string[]): StatusRecord {
  return {
    ...placeOf(key),
    until: Number(until),
    named: named.split(' ').filter(Boolean),
    ...(JSON.parse(record) as Pick<StatusRecord, 'group' | 'hops'>),
  }
}
