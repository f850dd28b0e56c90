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
redis.call('ZADD', seen, arg(3), arg(1))
redis.call('HSET', K .. 'platform:agents', arg(1), arg(6))
return {'new'}
`)

const LIST = script(`
local found = {'agents'}
local all = redis.call('HGETALL', K .. 'platform:agents')
for i = 1, #all, 2 do
  local agent = cjson.decode(all[i + 1])
  local seen = redis.call('ZSCORE', K .. 'platform:seen:' .. agent.platform, all[i])
  if seen then
    found[#found + 1] = all[i + 1]
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
    list: async () => {
      const reply = await redis.run(LIST, [])
      if (reply[0] !== 'agents' || reply.length % 2 === 0) throw unexpected(reply)
      const agents: PlatformAgent[] = []
      for (let at = 1; at < reply.length; at += 2) {
        const kept = JSON.parse(reply[at]!) as Omit<PlatformAgent, 'lastSeen'>
        agents.push({ ...kept, lastSeen: Number(reply[at + 1]) })
      }
      return agents.sort((a, b) => (a.clientId < b.clientId ? -1 : 1))
    },
  }
}
