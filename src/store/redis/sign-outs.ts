/** Who signed out of everything when, in Redis. */
import type { SignOuts } from '../../tokens/sign-outs.ts'
import { type RedisClient, type Script, script, short, unexpected } from './client.ts'

// The mark first, and only raised: run without the rest, it holds what it says.
const MARK = script(
  `
local was = tonumber(redis.call('HGET', K .. 'signouts', arg(1)) or '-1')
if tonumber(arg(2)) > was then redis.call('HSET', K .. 'signouts', arg(1), arg(2)) end
redis.call('ZADD', K .. 'signouts:keep', 'GT', arg(3), arg(1))
return {'marked'}
`,
  { critical: true },
)

const SETTLE = script(
  `
if redis.call('HEXISTS', K .. 'signouts', arg(1)) == 0 then return {'settled'} end
local was = tonumber(redis.call('HGET', K .. 'signouts:settled', arg(1)) or '-1')
if tonumber(arg(2)) > was then redis.call('HSET', K .. 'signouts:settled', arg(1), arg(2)) end
return {'settled'}
`,
  { critical: true },
)

const BEFORE = script("return {'before', redis.call('HGET', K .. 'signouts', arg(1)) or ''}")
const SETTLED = script("return {'settled', redis.call('HGET', K .. 'signouts:settled', arg(1)) or ''}")

const PRUNE = script(`
local old = redis.call('ZRANGE', K .. 'signouts:keep', '-inf', '(' .. arg(1), 'BYSCORE', 'LIMIT', 0, 256)
if #old > 0 then
  redis.call('HDEL', K .. 'signouts:settled', unpack(old))
  redis.call('HDEL', K .. 'signouts', unpack(old))
  redis.call('ZREM', K .. 'signouts:keep', unpack(old))
end
return {'pruned'}
`)

export function createSignOuts({ redis }: { redis: RedisClient }): SignOuts {
  const done = async (run: Script, word: string, values: readonly (string | number)[]): Promise<void> => {
    const reply = await redis.run(run, values)
    if (reply[0] !== word) throw unexpected(reply)
  }
  const time = async (run: Script, word: string, subject: string): Promise<number | undefined> => {
    const reply = await redis.run(run, [short(subject)])
    if (reply[0] !== word || reply[1] === undefined) throw unexpected(reply)
    return reply[1] === '' ? undefined : Number(reply[1])
  }
  return {
    before: (subject) => time(BEFORE, 'before', subject),
    mark: (subject, before, keepUntil) => done(MARK, 'marked', [short(subject), before, keepUntil]),
    settle: (subject, before) => done(SETTLE, 'settled', [short(subject), before]),
    settled: (subject) => time(SETTLED, 'settled', subject),
    prune: (now) => done(PRUNE, 'pruned', [now]),
  }
}
