/**
 * Whether what decides still stands in Redis as it was written. Whoever has the password of Redis could take a revocation out,
 * or change it; each process compares what is there with what it holds on its own disk.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Epoch } from '@errand/verifier/epoch.ts'
import type { NewRevocation, Revocation, RevocationLog } from '../../revoke/revocation-log.ts'
import { endOf, type Ledger } from '../ledger.ts'
import { type RedisClient, type Run, script, unexpected } from './client.ts'
import { learnLifts } from './lifts.ts'
import { INDEX } from './revocation-scripts.ts'

const PAGE = 200
/** Clocks of several processes may differ by as much, and each forgets by its own. */
const SKEW_SECONDS = 300

const LOOK = `
local function stands(index, sequence, one, id)
  for _, item in ipairs(read(index, one.field)) do
    if item[1] == sequence and item[2] == one.generation and item[3] == id then return true end
  end
end
-- Indexed where it kills and where it bans, among the shapes that are asked for.
local function intact(sequence, one, id, now)
  -- What has expired is on its way out.
  local lives = tonumber(one.expires) > tonumber(now)
  if not lives and one.ban ~= '1' then return true end
  if redis.call('HEXISTS', K .. 'rev:shapes', one.shape) == 0 then return false end
  if lives and not stands(one.kills, sequence, one, id) then return false end
  local pinned = cjson.decode(one.body).before ~= nil
  return one.ban ~= '1' or pinned or stands('bans', sequence, one, id) == true
end
`

/** Index, after which sequence, how many, now: where to go on, and the ids of what is not what it should be. */
const BROKEN = script(
  `${INDEX}${LOOK}
local places = redis.call('ZRANGE', K .. 'rev:' .. arg(1), '(' .. arg(2), '+inf', 'BYSCORE', 'LIMIT', 0, arg(3))
local answer = {'page', #places == tonumber(arg(3)) and places[#places] or ''}
for _, sequence in ipairs(places) do
  local one = entry(sequence)
  if is_whole(sequence, one) then
    local id = cjson.decode(one.body).id
    if not intact(sequence, one, id, arg(4)) then answer[#answer + 1] = id end
  end
end
return answer
`,
  { critical: true },
)

/** id, body, now: what is not that, or does not stand where it must, is forgotten, so that it can be added again. */
const DISCARD = script(
  `${INDEX}${LOOK}
local sequence, one = find(arg(1))
if not sequence then return {'none'} end
if one.body == arg(2) and intact(sequence, one, arg(1), arg(3)) then return {'whole'} end
redis.call('HDEL', K .. 'rev:ids', arg(1))
return {'discarded'}
`,
  { critical: true },
)

export const discardBroken = async (run: Run, entry: NewRevocation, now: number): Promise<void> => {
  await run(DISCARD, [entry.id, JSON.stringify(entry), now])
}

async function broken(redis: RedisClient, index: 'order' | 'open', now: number): Promise<boolean> {
  for (let after = '0'; ; ) {
    const reply = await redis.run(BROKEN, [index, after, PAGE, now])
    const [word, next, ...ids] = reply
    if (word !== 'page' || next === undefined) throw unexpected(reply)
    if (ids.length > 0) return true
    if (next === '') return false
    after = next
  }
}

/** Whatever stands in Redis is kept here too. Answers whether all stands there that should, as it should. */
export async function isIntact(deps: {
  redis: RedisClient
  ledger: Ledger
  revocations: RevocationLog
  now: () => number
}): Promise<boolean> {
  const { redis, ledger, revocations } = deps
  const now = deps.now()
  const held = ledger.entries()
  const stored = [...(await revocations.after()), ...(await revocations.bans(now))]
  return (
    (await adopt(redis, ledger, stored, held, now)) &&
    !(await broken(redis, 'order', now)) &&
    !(await broken(redis, 'open', now))
  )
}

/** `before`: what was held before `stored` was read. */
async function adopt(
  redis: RedisClient,
  ledger: Ledger,
  stored: readonly Revocation[],
  before: ReturnType<Ledger['entries']>,
  now: number,
): Promise<boolean> {
  const known = new Map(stored.map(({ epoch: _, readmitted: __, ...entry }) => [entry.id, entry]))
  const written = (entry: NewRevocation): unknown => JSON.parse(JSON.stringify(entry))
  const changed = before.some(
    ({ entry }) => known.has(entry.id) && !isDeepStrictEqual(known.get(entry.id), written(entry)),
  )
  const steps = stored.flatMap(({ epoch, readmitted, ...entry }) => [
    keepHeld(ledger, entry, epoch),
    ...(readmitted ? [ledger.lifted({ id: entry.id, ...readmitted })] : []),
  ])
  await Promise.all(steps).catch(() => undefined)
  const gone = new Set(before.flatMap(({ entry, held }) => (held && !known.has(entry.id) ? [entry.id] : [])))
  // A ban is over when it was to be, or when somebody lifted it, of which there is a record: not because its entry has expired.
  if (gone.size > 0) await learnLifts(redis.run, ledger)
  return !changed && ledger.entries().every((kept) => !gone.has(kept.entry.id) || endOf(kept) <= now + SKEW_SECONDS)
}

async function keepHeld(ledger: Ledger, entry: NewRevocation, epoch: Epoch): Promise<void> {
  await ledger.keep(entry)
  await ledger.held(entry.id, epoch)
}
