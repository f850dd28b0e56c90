/** What replicas tell one another, in Redis: one hash each, and beside it at which beat each word of it was told. */
import { formatEpoch, parseEpoch } from '@errand/verifier/epoch.ts'
import type { OtherReplica, Replicas } from '../../revoke/replicas.ts'
import { type RedisClient, type Reply, script, unexpected } from './client.ts'
import { createQuestions } from './replica-questions.ts'

const PER_OTHER = 6

/**
 * id, run, first?, covers, all?, how many words, how many are over, how many others are known, how many of them are gone;
 * then each word by whom it is about, each that is over, each other's id, run and beat, and of each that is gone its id and
 * beat. Bounded by whoever tells, so it goes on above the memory limit: a replica that nobody knows of must not serve.
 */
const EXCHANGE = script(
  `
local id, run = arg(1), arg(2)
local mine, moved = K .. 'replica:' .. id, K .. 'replica:' .. id .. ':moved'
if redis.call('HGET', mine, 'run') ~= run then
  if arg(5) ~= '1' then return {'all'} end
  redis.call('DEL', mine, moved, mine .. ':answers')
elseif arg(5) == '1' then
  for _, about in ipairs(redis.call('ZRANGE', moved, 0, -1)) do redis.call('HDEL', mine, 'word:' .. about) end
  redis.call('DEL', moved)
end
-- The beat last: words without it are read again, and one that is read too early is true.
local beat = string.format('%.0f', tonumber(redis.call('HGET', mine, 'beat') or '0') + 1)
local at = 10
redis.call('HSET', mine, 'run', run, 'first', arg(3))
for n = 1, tonumber(arg(6)) do
  redis.call('HSET', mine, 'word:' .. arg(at), arg(at + 1))
  redis.call('ZADD', moved, beat, arg(at))
  at = at + 2
end
for n = 1, tonumber(arg(7)) do
  redis.call('HDEL', mine, 'word:' .. arg(at))
  redis.call('ZREM', moved, arg(at))
  at = at + 1
end
redis.call('SADD', K .. 'replicas', id)
redis.call('HSET', mine, 'covers', arg(4), 'beat', beat)
local known = {}
for n = 1, tonumber(arg(8)) do
  known[arg(at)] = {arg(at + 1), arg(at + 2)}
  at = at + 3
end
for n = 1, tonumber(arg(9)) do
  local gone = K .. 'replica:' .. arg(at)
  -- Unless it has come back.
  if redis.call('HGET', gone, 'beat') == arg(at + 1) then
    redis.call('DEL', gone, gone .. ':moved', gone .. ':answers')
    redis.call('SREM', K .. 'replicas', arg(at))
  end
  at = at + 2
end
local answer = {'others'}
for _, other in ipairs(redis.call('SMEMBERS', K .. 'replicas')) do
  local key = K .. 'replica:' .. other
  local told = redis.call('HMGET', key, 'run', 'first', 'covers', 'beat')
  if other ~= id and told[4] then
    local from = known[other] and known[other][1] == told[1] and '(' .. known[other][2] or '-inf'
    local about = redis.call('ZRANGE', key .. ':moved', from, '+inf', 'BYSCORE')
    answer[#answer + 1] = other
    for n = 1, 4 do answer[#answer + 1] = told[n] end
    answer[#answer + 1] = tostring(#about)
    for _, one in ipairs(about) do
      answer[#answer + 1] = one
      answer[#answer + 1] = redis.call('HGET', key, 'word:' .. one) or ''
    end
  end
end
return answer
`,
  { critical: true },
)

/** `id`: of this replica, the same after a restart. */
export function createReplicas({ redis }: { redis: RedisClient }, id: string): Replicas {
  let told: string | undefined
  const all = new Map<string, string>()
  let known = new Map<string, { readonly run: string; readonly beat: number }>()

  return {
    ...createQuestions({ redis }, id),
    exchange: async ({ run, first, covers, words, over, gone = [] }) => {
      for (const about of over) all.delete(about)
      for (const [about, word] of words) all.set(about, word)
      const others = [...known].flatMap(([other, { run: its, beat }]) => [other, its, beat])
      const left = gone.flatMap((other) => [other, known.get(other)?.beat ?? ''])
      const send = (whole: boolean) => {
        const some = [...(whole ? all : words)]
        const taken = whole ? [] : over
        const head = [id, run, first ? '1' : '', formatEpoch(covers), whole ? '1' : '']
        const counts = [some.length, taken.length, known.size, gone.length]
        return redis.run(EXCHANGE, [...head, ...counts, ...some.flat(), ...taken, ...others, ...left])
      }
      // What was told in vain is told again: which of it arrived is not known.
      const whole = told !== run
      told = undefined
      let reply = await send(whole)
      if (reply[0] === 'all') reply = await send(true)
      if (reply[0] !== 'others') throw unexpected(reply)
      told = run
      const found = toOthers(reply)
      known = new Map(found.map((other) => [other.id, other]))
      return found
    },
  }
}

function toOthers(reply: Reply): readonly OtherReplica[] {
  const found: OtherReplica[] = []
  for (let at = 1; at < reply.length; ) {
    const [id, run, first, covers, beat, count] = reply.slice(at, at + PER_OTHER)
    const epoch = parseEpoch(covers)
    const until = at + PER_OTHER + 2 * Number(count)
    if (!id || !run || !epoch || !(until <= reply.length)) throw unexpected(reply)
    const words = new Map<string, string>()
    for (at += PER_OTHER; at < until; at += 2) words.set(reply[at]!, reply[at + 1]!)
    found.push({ id, run, first: first === '1', covers: epoch, beat: Number(beat), words })
  }
  return found
}
