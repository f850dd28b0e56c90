/** Agents of platforms, by their coming, in Redis. */
import type { Admitted, PlatformAgent, PlatformAgents } from '../../attest/platform-agents.ts'
import { type RedisClient, script, unexpected } from './client.ts'

// One script is one step: of simultaneous calls no more than `most` find room.
const ADMIT = script(`
local seen = K .. 'platform:seen:' .. arg(2)
if redis.call('ZSCORE', seen, arg(1)) then
  redis.call('ZADD', seen, arg(3), arg(1))
  return {'known'}
end
local old = redis.call('ZRANGE', seen, '-inf', '(' .. arg(5), 'BYSCORE', 'LIMIT', 0, 256)
if #old > 0 then
  redis.call('ZREM', seen, unpack(old))
  redis.call('HDEL', K .. 'platform:agents', unpack(old))
end
if redis.call('ZCARD', seen) >= tonumber(arg(4)) then return {'full'} end
-- Seen last: who is known has a record.
redis.call('HSET', K .. 'platform:agents', arg(1), arg(6))
redis.call('ZADD', seen, arg(3), arg(1))
return {'new'}
`)

const FIND = script(`
local kept = redis.call('HGET', K .. 'platform:agents', arg(1))
if not kept then return {'none'} end
local seen = redis.call('ZSCORE', K .. 'platform:seen:' .. cjson.decode(kept).platform, arg(1))
if not seen then return {'none'} end
return {'found', kept, seen}
`)

const LIST = script(`
local found = {'agents'}
local names = redis.call('HKEYS', K .. 'platform:agents')
table.sort(names)
for i = 1, math.min(#names, tonumber(arg(1))) do
  local kept = redis.call('HGET', K .. 'platform:agents', names[i])
  local seen = redis.call('ZSCORE', K .. 'platform:seen:' .. cjson.decode(kept).platform, names[i])
  if seen then
    found[#found + 1] = kept
    found[#found + 1] = seen
  end
end
return found
`)

const ANSWERS: readonly string[] = ['known', 'new', 'full'] satisfies Admitted[]

export function createPlatformAgents(deps: { redis: RedisClient }): PlatformAgents {
  const { redis } = deps
  return {
    admit: async ({ clientId, platform, sub }, now, { most, since }) => {
      const kept: Omit<PlatformAgent, 'lastSeen'> = { clientId, platform, sub, firstSeen: now }
      const reply = await redis.run(ADMIT, [clientId, platform, now, most, since, JSON.stringify(kept)])
      if (!ANSWERS.includes(reply[0])) throw unexpected(reply)
      return reply[0] as Admitted
    },
    list: async (limit) => {
      const reply = await redis.run(LIST, [limit])
      if (reply[0] !== 'agents' || reply.length % 2 === 0) throw unexpected(reply)
      const agents: PlatformAgent[] = []
      for (let at = 1; at < reply.length; at += 2) agents.push(toAgent(reply[at]!, reply[at + 1]!))
      return agents
    },
    find: async (clientId) => {
      const [answer, kept, seen] = await redis.run(FIND, [clientId])
      if (answer === 'none') return undefined
      if (answer !== 'found' || kept === undefined || seen === undefined) throw unexpected([String(answer)])
      return toAgent(kept, seen)
    },
  }
}

const toAgent = (kept: string, seen: string): PlatformAgent => ({
  ...(JSON.parse(kept) as Omit<PlatformAgent, 'lastSeen'>),
  lastSeen: Number(seen),
})
