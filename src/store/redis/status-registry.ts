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

/** key, until. */
const KEEP = script(`${MOVE}
if redis.call('HEXISTS', K .. 'status:records', arg(1)) == 0 then return {'gone'} end
redis.call('ZADD', K .. 'status:until', 'GT', arg(2), arg(1))
move(arg(1))
return {'done'}
`)

/** key, jti. */
const NAME = script(
  `${MOVE}
if redis.call('HEXISTS', K .. 'status:records', arg(1)) == 0 then return {'gone'} end
local named = redis.call('HGET', K .. 'status:named', arg(1)) or ''
if not string.find(' ' .. named .. ' ', ' ' .. arg(2) .. ' ', 1, true) then
  redis.call('HSET', K .. 'status:named', arg(1), named == '' and arg(2) or named .. ' ' .. arg(2))
end
move(arg(1))
return {'done'}
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
    keep: async (list, idx, until) => done(await redis.run(KEEP, [keyOf(list, idx), until]), 'gone'),
    name: async (list, idx, jti) => done(await redis.run(NAME, [keyOf(list, idx), jti]), 'gone'),
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
      while ((await redis.run(PRUNE, [before]))[0] === 'more');
    },
  }
}

const keyOf = (list: string, idx: number): string => `${list}:${idx}`

function toRecord([key = '', until, named = '', record = '']: readonly string[]): StatusRecord {
  const [list = '', idx] = key.split(':')
  return {
    list,
    idx: Number(idx),
    until: Number(until),
    named: named.split(' ').filter(Boolean),
    ...(JSON.parse(record) as Pick<StatusRecord, 'group' | 'hops'>),
  }
}
