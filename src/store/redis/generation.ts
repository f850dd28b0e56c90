/**
 * Which Redis this is. The generation names the run of the server that it was opened on: after a restart or a fail-over it
 * names another, whatever of its data is there, and nothing is read from it until every process on the roster has given back
 * what it holds. So a loss is noticed before the first answer, also by a process that never saw what was lost.
 */
import type { Redis } from 'ioredis'

export interface Generation {
  /** As it stands in Redis; every script is refused that was sent for another. */
  readonly text: string
  readonly number: number
  /** Unix seconds; 0 for the first. */
  readonly openedAt: number
  /** The last place that was there before what was given back. */
  readonly base: number
}

const OPEN = /^([1-9][0-9]{0,8}):([0-9a-f]{40}\.[0-9a-f]{40}):([0-9]{1,12}):([0-9]{1,15})$/

/** Undefined where it is not open for this run of the server. */
export function openOn(run: string, text: string | null): Generation | undefined {
  const found = text === null ? null : OPEN.exec(text)
  if (!found || found[2] !== run) return undefined
  return { text: found[0], number: Number(found[1]), openedAt: Number(found[3]), base: Number(found[4]) }
}

const firstOn = (run: string): string => `1:${run}:0:0`

/** Scripts of their own: they are about the very thing that all others are refused by. */
const SEAL = `
local K, run, least = KEYS[1], ARGV[1], tonumber(ARGV[2])
local text = redis.call('GET', K .. 'generation') or ''
local number, of = string.match(text, '^(%d+):([0-9a-f.]+):%d+:%d+$')
if of == run and text ~= ARGV[3] then return {'open', text} end
local sealed, for_run = string.match(text, '^sealed:(%d+):([0-9a-f.]+)$')
if for_run ~= run or tonumber(sealed) <= least then
  local highest = math.max(least, tonumber(number or sealed or string.match(text, '^%d+') or '0'))
  text = string.format('sealed:%.0f:%s', highest + 1, run)
  if for_run ~= run then redis.call('SET', K .. 'seal:base', redis.call('GET', K .. 'rev:sequence') or '0') end
  redis.call('DEL', K .. 'seal:done')
  redis.call('SET', K .. 'generation', text)
end
redis.call('HSET', K .. 'roster', ARGV[4], ARGV[5])
for n = 6, #ARGV do redis.call('HSETNX', K .. 'roster', ARGV[n], '') end
return {'sealed', text}
`

/**
 * The last to say so opens. One that was declared lost is not waited for, but everything that it may have ended is: the
 * caller adds that entry, and says so by '1'.
 */
const GIVEN_BACK = `
local K, text, me, now = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
if redis.call('GET', K .. 'generation') ~= text then return {'moved'} end
redis.call('SADD', K .. 'seal:done', me)
local missing, lost = {'waiting'}, {}
local names = redis.call('HGETALL', K .. 'roster')
for n = 1, #names, 2 do
  if redis.call('SISMEMBER', K .. 'seal:done', names[n]) == 0 then
    if redis.call('SISMEMBER', K .. 'seal:without', names[n]) == 1 then lost[#lost + 1] = names[n]
    else missing[#missing + 1] = names[n] .. (names[n + 1] ~= '' and ' (' .. names[n + 1] .. ')' or '') end
  end
end
if #missing > 1 then return missing end
if #lost > 0 and ARGV[4] ~= '1' then return {'lost', unpack(lost)} end
for _, id in ipairs(lost) do redis.call('HDEL', K .. 'roster', id) end
-- What a join token made, and who used one, may be what is missing.
redis.call('DEL', K .. 'seal:done', K .. 'seal:without', K .. 'join:offers', K .. 'join:used', K .. 'join:expiry')
local number, run = string.match(text, '^sealed:(%d+):([0-9a-f.]+)$')
local base = redis.call('GET', K .. 'seal:base') or '0'
local opened = number .. ':' .. run .. ':' .. now .. ':' .. base
redis.call('SET', K .. 'generation', opened)
return {'open', opened}
`

export interface Roster {
  readonly id: string
  /** For people. */
  readonly name: string
  /** Others that were seen on the same store. */
  readonly known: readonly string[]
}

export function createGenerations({ redis, base }: { redis: Redis; base: string }) {
  const answer = async (source: string, args: readonly (string | number)[]): Promise<readonly string[]> => {
    const reply: unknown = await redis.eval(source, 1, base, ...args)
    if (!Array.isArray(reply) || reply.length === 0 || !reply.every((each) => typeof each === 'string'))
      throw new Error('unexpected form of reply')
    return reply
  }
  return {
    read: (): Promise<string | null> => redis.get(`${base}generation`),
    begin: async (run: string): Promise<void> => {
      await redis.setnx(`${base}generation`, firstOn(run))
    },
    /**
     * Seals it for a new generation above `least`, unless it is open for this run of the server by another text than
     * `distrusted`. Answers the text under which what is held is given back.
     */
    seal: async (run: string, least: number, distrusted: string, { id, name, known }: Roster) => {
      const others = known.filter((each) => each !== id)
      const [word, text = ''] = await answer(SEAL, [run, least, distrusted, id, name, ...others])
      return { opened: word === 'open' ? openOn(run, text) : undefined, text }
    },
    /** This process has given back what it holds. */
    givenBack: async (text: string, id: string, now: number, everything: boolean) => {
      const [word, ...rest] = await answer(GIVEN_BACK, [text, id, now, everything ? '1' : ''])
      return { word, rest }
    },
  }
}
