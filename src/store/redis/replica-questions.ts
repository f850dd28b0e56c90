/** What one replica asks the others, in Redis: its question beside what it tells, and their answers beside that. */
import { setTimeout as wait } from 'node:timers/promises'
import type { Replicas } from '../../revoke/replicas.ts'
import { type RedisClient, type Reply, script, unexpected } from './client.ts'

const CHANNEL = 'replicas:asked'
const LOOK_EVERY_MS = 20
/** Together as long as somebody waits for a preview. */
const LOOKS = 40

/** id, number, question, channel. Answers who else there is. */
const ASK = script(
  `
local mine = K .. 'replica:' .. arg(1)
redis.call('DEL', mine .. ':answers')
redis.call('HSET', mine, 'asking', arg(2), 'question', arg(3))
redis.call('PUBLISH', K .. arg(4), arg(1))
local answer = {'asked'}
for _, other in ipairs(redis.call('SMEMBERS', K .. 'replicas')) do
  if other ~= arg(1) and redis.call('HEXISTS', K .. 'replica:' .. other, 'beat') == 1 then answer[#answer + 1] = other end
end
return answer
`,
)

/** id. Answers what others ask that it has not answered: who, which number, what. */
const OPEN = script(
  `
local answer = {'open'}
for _, other in ipairs(redis.call('SMEMBERS', K .. 'replicas')) do
  local key = K .. 'replica:' .. other
  local asked = redis.call('HMGET', key, 'asking', 'question')
  if other ~= arg(1) and asked[2] and redis.call('HEXISTS', key .. ':answers', arg(1)) == 0 then
    answer[#answer + 1] = other
    answer[#answer + 1] = asked[1]
    answer[#answer + 1] = asked[2]
  end
end
return answer
`,
)

/** Who asked, which number, id, answer. */
const ANSWER = script(
  `
local key = K .. 'replica:' .. arg(1)
if redis.call('HGET', key, 'asking') == arg(2) then redis.call('HSET', key .. ':answers', arg(3), arg(4)) end
return {'done'}
`,
)

/** id, how many are waited for, to the end? Answers none of them before there are so many. */
const TAKE = script(
  `
local mine = K .. 'replica:' .. arg(1)
local answers = redis.call('HGETALL', mine .. ':answers')
if #answers < 2 * tonumber(arg(2)) and arg(3) == '' then return {'wait'} end
redis.call('HDEL', mine, 'asking', 'question')
redis.call('DEL', mine .. ':answers')
return {'answers', unpack(answers)}
`,
)

export function createQuestions({ redis }: { redis: RedisClient }, id: string): Pick<Replicas, 'ask' | 'answer'> {
  let asked = 0
  let last: Promise<unknown> = Promise.resolve()

  async function ask(question: string, run: string): Promise<ReadonlyMap<string, string | undefined>> {
    asked += 1
    const reply = await redis.run(ASK, [id, `${run} ${asked}`, question, CHANNEL])
    if (reply[0] !== 'asked') throw unexpected(reply)
    const others = reply.slice(1)
    const found = new Map<string, string | undefined>(others.map((other) => [other, undefined]))
    for (let look = 1; look <= LOOKS; look++) {
      if (others.length > 0) await wait(LOOK_EVERY_MS)
      const taken = await redis.run(TAKE, [id, others.length, look === LOOKS ? '1' : ''])
      if (taken[0] === 'wait') continue
      for (const [other, text] of pairsOf(taken)) if (found.has(other)) found.set(other, text)
      break
    }
    return found
  }

  return {
    // One after the other: there is one place for a question.
    ask: (question, run) => {
      const next = last.then(() => ask(question, run))
      last = next.catch(() => undefined)
      return next
    },
    answer: async (by, onError) => {
      const look = async () => {
        const reply = await redis.run(OPEN, [id])
        if (reply[0] !== 'open') throw unexpected(reply)
        for (let at = 1; at + 2 < reply.length; at += 3) {
          const [other, number, question] = reply.slice(at, at + 3)
          await redis.run(ANSWER, [other!, number!, id, await by(question!)])
        }
      }
      await redis.listen(CHANNEL, () => void look().catch(onError))
    },
  }
}

function pairsOf(reply: Reply): readonly (readonly [string, string])[] {
  if (reply[0] !== 'answers') throw unexpected(reply)
  return Array.from({ length: (reply.length - 1) / 2 }, (_, at) => [reply[1 + 2 * at]!, reply[2 + 2 * at]!] as const)
}
