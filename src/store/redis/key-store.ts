/** Sealed signing keys in Redis, one hash each; never deleted, so that a kid is never used again. */
import type { KeyStore, StoredKey } from '../../keys/key-store.ts'
import { type RedisClient, type Run, script, short, unexpected } from './client.ts'

const LIST = script(
  `
local answer = {'keys'}
for _, kid in ipairs(redis.call('SMEMBERS', K .. 'kids')) do
  local key = redis.call('HMGET', K .. 'key:' .. kid, 'fixed', 'state', 'activated', 'retiring', 'retired')
  if key[1] then
    for n = 1, 5 do answer[#answer + 1] = key[n] or '' end
  end
end
return answer
`,
  { critical: true },
)

const INSERT = script(`
local key = K .. 'key:' .. arg(1)
if redis.call('SISMEMBER', K .. 'kids', arg(1)) == 1 and redis.call('EXISTS', key) == 1 then return {'known'} end
redis.call('HSET', key, 'fixed', arg(2), 'purpose', arg(3), 'state', arg(4),
  'activated', arg(5), 'retiring', arg(6), 'retired', arg(7))
-- Last: only a whole key is listed.
redis.call('SADD', K .. 'kids', arg(1))
return {'inserted'}
`)

const ACTIVATE = script(
  `
local key = K .. 'key:' .. arg(1)
if redis.call('HGET', key, 'state') ~= 'prepared' then return {'no'} end
local purpose = redis.call('HGET', key, 'purpose')
local found = {}
for _, kid in ipairs(redis.call('SMEMBERS', K .. 'kids')) do
  local other = redis.call('HMGET', K .. 'key:' .. kid, 'purpose', 'state')
  if other[1] == purpose and other[2] == 'active' then
    found[#found + 1] = kid
    found[kid] = true
  end
end
if arg(2) == '' and #found > 0 or arg(2) ~= '' and not found[arg(2)] then return {'no'} end
-- The new one first: there is always one to sign with.
redis.call('HSET', key, 'state', 'active', 'activated', arg(3))
for _, kid in ipairs(found) do redis.call('HSET', K .. 'key:' .. kid, 'state', 'retiring', 'retiring', arg(3)) end
return {'done'}
`,
  { critical: true },
)

const MOVE = script(
  `
local key = K .. 'key:' .. arg(1)
local state = redis.call('HGET', key, 'state')
for n = 4, args do
  if arg(n) == state then
    redis.call('HSET', key, 'state', arg(2), 'retired', arg(3))
    return {'done'}
  end
end
return {'no'}
`,
  { critical: true },
)

type Fixed = Pick<StoredKey, 'kid' | 'purpose' | 'alg' | 'publicJwk' | 'sealed' | 'preparedAt'>

/** False where it is known. */
export async function insertKey(run: Run, key: StoredKey): Promise<boolean> {
  const { kid, purpose, alg, publicJwk, sealed, preparedAt, ...moving } = key
  const fixed: Fixed = { kid, purpose, alg, publicJwk, sealed, preparedAt }
  const times = [moving.activatedAt ?? '', moving.retiringAt ?? '', moving.retiredAt ?? '']
  const reply = await run(INSERT, [short(kid), JSON.stringify(fixed), purpose, moving.state, ...times])
  return reply[0] === 'inserted'
}

export function createKeyStore(deps: { redis: RedisClient }): KeyStore {
  const { redis } = deps
  return {
    list: async () => {
      const reply = await redis.run(LIST, [])
      const keys: StoredKey[] = []
      for (let index = 1; index + 4 < reply.length; index += 5) {
        const [fixed, state, activated, retiring, retired] = reply.slice(index, index + 5)
        if (!fixed || !state) throw unexpected(reply)
        keys.push({
          ...(JSON.parse(fixed) as Fixed),
          state: state as StoredKey['state'],
          ...(activated ? { activatedAt: Number(activated) } : {}),
          ...(retiring ? { retiringAt: Number(retiring) } : {}),
          ...(retired ? { retiredAt: Number(retired) } : {}),
        })
      }
      return keys.sort((a, b) => a.preparedAt - b.preparedAt || (a.kid < b.kid ? -1 : 1))
    },
    insert: (key) => insertKey(redis.run, key),
    activate: async (kid, expectedActive, at) => {
      const expected = expectedActive === undefined ? '' : short(expectedActive)
      return (await redis.run(ACTIVATE, [short(kid), expected, at]))[0] === 'done'
    },
    move: async (kid, from, to, at) => (await redis.run(MOVE, [short(kid), to, at, ...from]))[0] === 'done',
  }
}
