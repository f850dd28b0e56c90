/** The sealed key of each subject in Redis; an empty one is a tombstone. */
import type { SubjectKeys } from '../../audit/subject-keys.ts'
import { type RedisClient, type Reply, script, short, unexpected } from './client.ts'

const FIND = script(
  `
local sealed = redis.call('HGET', K .. 'subject-keys', arg(1))
if sealed then return {'found', sealed} end
return {'none'}
`,
  { critical: true },
)
const OBTAIN = script(`
redis.call('HSETNX', K .. 'subject-keys', arg(1), arg(2))
return {'found', redis.call('HGET', K .. 'subject-keys', arg(1))}
`)
const ERASE = script(
  `
local sealed = redis.call('HGET', K .. 'subject-keys', arg(1))
redis.call('HSET', K .. 'subject-keys', arg(1), '')
return {(sealed and sealed ~= '') and 'erased' or 'none'}
`,
  { critical: true },
)

export function createSubjectKeys(deps: { redis: RedisClient }): SubjectKeys {
  const { redis } = deps
  const sealedOf = (reply: Reply): string | undefined => {
    if (reply[0] === 'none') return undefined
    if (reply[0] !== 'found' || reply[1] === undefined) throw unexpected(reply)
    return reply[1] === '' ? undefined : reply[1]
  }
  return {
    obtain: async (ref, make) => {
      const known = await redis.run(FIND, [short(ref)])
      return sealedOf(known[0] === 'none' ? await redis.run(OBTAIN, [short(ref), make()]) : known)
    },
    find: async (ref) => sealedOf(await redis.run(FIND, [short(ref)])),
    erase: async (ref) => (await redis.run(ERASE, [short(ref)]))[0] === 'erased',
  }
}
