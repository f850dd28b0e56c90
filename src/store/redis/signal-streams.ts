/** Streams of security events in Redis. */
import type { SignalStream, SignalStreams, StreamSettings } from '../../revoke/signals/streams.ts'
import { type RedisClient, type Script, script, unexpected } from './client.ts'

// What names the stream is written last and removed first: by half, it is not there.
const CREATE = script(`
if redis.call('HEXISTS', K .. 'signals:receivers', arg(2)) == 1 then return {'taken'} end
redis.call('HSET', K .. 'signals:cursors', arg(1), arg(4))
redis.call('HSET', K .. 'signals:streams', arg(1), arg(3))
redis.call('HSET', K .. 'signals:receivers', arg(2), arg(1))
return {'created'}
`)

const FIND = `
local function found(id)
  local kept = id and redis.call('HGET', K .. 'signals:streams', id)
  if not kept or redis.call('HGET', K .. 'signals:receivers', cjson.decode(kept).receiver) ~= id then return nil end
  return kept, redis.call('HGET', K .. 'signals:cursors', id)
end
`
const GET = script(`${FIND}
local kept, cursor = found(arg(1))
if not kept then return {'none'} end
return {'stream', kept, cursor}
`)
const OF = script(`${FIND}
local kept, cursor = found(redis.call('HGET', K .. 'signals:receivers', arg(1)))
if not kept then return {'none'} end
return {'stream', kept, cursor}
`)
const LIST = script(`${FIND}
local all = {'streams'}
local ids = redis.call('HVALS', K .. 'signals:receivers')
table.sort(ids)
for _, id in ipairs(ids) do
  local kept, cursor = found(id)
  if kept then
    all[#all + 1] = kept
    all[#all + 1] = cursor
  end
end
return all
`)

const CHANGE = script(`${FIND}
if not found(arg(1)) then return {'none'} end
redis.call('HSET', K .. 'signals:streams', arg(1), arg(2))
return {'changed'}
`)

const REMOVE = script(`${FIND}
local kept = found(arg(1))
if not kept then return {'none'} end
redis.call('HDEL', K .. 'signals:receivers', cjson.decode(kept).receiver)
redis.call('DEL', K .. 'signals:queue:' .. arg(1), K .. 'signals:claims:' .. arg(1))
redis.call('HDEL', K .. 'signals:places', arg(1))
redis.call('HDEL', K .. 'signals:cursors', arg(1))
redis.call('HDEL', K .. 'signals:streams', arg(1))
return {'removed'}
`)

// The cursor last: cut off before, the events come once more under the same names. A name is given a place in the queue
// only once its claims are there.
const PUT = `
local function put(id, jti, claims)
  if redis.call('ZSCORE', K .. 'signals:queue:' .. id, jti) then return end
  redis.call('HSET', K .. 'signals:claims:' .. id, jti, claims)
  redis.call('ZADD', K .. 'signals:queue:' .. id, redis.call('HINCRBY', K .. 'signals:places', id, 1), jti)
end
`
const APPEND = script(`${FIND}${PUT}
local kept, cursor = found(arg(1))
if not kept then return {'gone'} end
local generation, sequence = string.match(cursor, '^(%d+)%.(%d+)$')
local ahead = tonumber(arg(2)) - tonumber(generation)
if ahead == 0 then ahead = tonumber(arg(3)) - tonumber(sequence) end
if ahead <= 0 then return {'behind'} end
local events = (args - 4) / 2
if events > 0 and redis.call('ZCARD', K .. 'signals:queue:' .. arg(1)) + events > tonumber(arg(4)) then return {'full'} end
for n = 1, events do put(arg(1), arg(3 + 2 * n), arg(4 + 2 * n)) end
redis.call('HSET', K .. 'signals:cursors', arg(1), arg(2) .. '.' .. arg(3))
return {'added'}
`)
const ADD = script(`${FIND}${PUT}
if found(arg(1)) then put(arg(1), arg(2), arg(3)) end
return {'done'}
`)

const PENDING = script(`
local all = {'events'}
for _, jti in ipairs(redis.call('ZRANGE', K .. 'signals:queue:' .. arg(1), 0, arg(2) - 1)) do
  local claims = redis.call('HGET', K .. 'signals:claims:' .. arg(1), jti)
  if claims then
    all[#all + 1] = jti
    all[#all + 1] = claims
  end
end
return all
`)

const ACKNOWLEDGE = script(`
local gone = 0
for n = 2, args do
  gone = gone + redis.call('ZREM', K .. 'signals:queue:' .. arg(1), arg(n))
  redis.call('HDEL', K .. 'signals:claims:' .. arg(1), arg(n))
end
return {'done', tostring(gone)}
`)

const RESTART = script(`${FIND}
if not found(arg(1)) then return {'done'} end
redis.call('HSET', K .. 'signals:cursors', arg(1), arg(2))
redis.call('DEL', K .. 'signals:queue:' .. arg(1), K .. 'signals:claims:' .. arg(1))
return {'done'}
`)

const APPENDED = ['added', 'behind', 'full', 'gone'] as const

export function createSignalStreams({ redis }: { redis: RedisClient }): SignalStreams {
  const word = async <W extends string>(run: Script, values: readonly (string | number)[], words: readonly W[]) => {
    const reply = await redis.run(run, values)
    const found = words.find((each) => each === reply[0])
    if (found === undefined) throw unexpected(reply)
    return found
  }
  const one = async (run: Script, value: string): Promise<SignalStream | undefined> => {
    const [answer, kept, cursor] = await redis.run(run, [value])
    if (answer === 'none') return undefined
    if (answer !== 'stream' || kept === undefined || cursor === undefined) throw unexpected([answer])
    return toStream(kept, cursor)
  }
  return {
    create: async ({ cursor, ...stream }) => {
      const values = [stream.id, stream.receiver, JSON.stringify(stream), `${cursor.generation}.${cursor.sequence}`]
      return (await word(CREATE, values, ['created', 'taken'])) === 'created'
    },
    list: async () => {
      const reply = await redis.run(LIST, [])
      if (reply[0] !== 'streams' || reply.length % 2 === 0) throw unexpected(reply)
      const streams: SignalStream[] = []
      for (let at = 1; at < reply.length; at += 2) streams.push(toStream(reply[at]!, reply[at + 1]!))
      return streams
    },
    get: (id) => one(GET, id),
    ofReceiver: (receiver) => one(OF, receiver),
    change: async (id, settings) => {
      const stream = await one(GET, id)
      if (!stream) return false
      const kept: Omit<SignalStream, 'cursor'> = { ...settings, id, receiver: stream.receiver }
      return (await word(CHANGE, [id, JSON.stringify(kept)], ['changed', 'none'])) === 'changed'
    },
    remove: async (id) => (await word(REMOVE, [id], ['removed', 'none'])) === 'removed',
    append: (id, { generation, sequence }, events, most) =>
      word(APPEND, [id, generation, sequence, most, ...events.flatMap(({ jti, claims }) => [jti, claims])], APPENDED),
    add: async (id, { jti, claims }) => void (await word(ADD, [id, jti, claims], ['done'])),
    pending: async (id, limit) => {
      const reply = await redis.run(PENDING, [id, limit])
      if (reply[0] !== 'events' || reply.length % 2 === 0) throw unexpected(reply)
      const events: { jti: string; claims: string }[] = []
      for (let at = 1; at < reply.length; at += 2) events.push({ jti: reply[at]!, claims: reply[at + 1]! })
      return events
    },
    acknowledge: async (id, jtis) => {
      if (jtis.length === 0) return 0
      const [answer, gone] = await redis.run(ACKNOWLEDGE, [id, ...jtis])
      if (answer !== 'done') throw unexpected([answer])
      return Number(gone)
    },
    restart: async (id, { generation, sequence }) =>
      void (await word(RESTART, [id, `${generation}.${sequence}`], ['done'])),
  }
}

function toStream(kept: string, cursor: string): SignalStream {
  const [generation, sequence] = cursor.split('.').map(Number)
  const stream = JSON.parse(kept) as StreamSettings & Pick<SignalStream, 'id' | 'receiver'>
  return { ...stream, cursor: { generation: generation!, sequence: sequence! } }
}
