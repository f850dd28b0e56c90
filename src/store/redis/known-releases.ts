/** Every release that was registered, in Redis: what another replica has noted is there. */
import type { KnownReleases } from '../../revoke/known-releases.ts'
import { packRelease, RELEASES_AT_ONCE, unpackRelease } from '../known-releases.ts'
import { type RedisClient, script, unexpected } from './client.ts'

/** Pairs of id and what is packed. An id is the digest of what it names: written again, it is the same. */
const NOTE = script(
  `
for n = 1, args, 2 do redis.call('HSET', K .. 'releases', arg(n), arg(n + 1)) end
return {'noted'}
`,
  { critical: true },
)

const IDS = script(
  `
local answer = {'ids'}
for _, id in ipairs(redis.call('HKEYS', K .. 'releases')) do answer[#answer + 1] = id end
return answer
`,
  { critical: true },
)

const READ = script(
  `
local answer = {'packed'}
for n = 1, args do answer[#answer + 1] = redis.call('HGET', K .. 'releases', arg(n)) or '' end
return answer
`,
  { critical: true },
)

export function createKnownReleases({ redis }: { redis: RedisClient }): KnownReleases {
  return {
    note: async (releases) => {
      for (let from = 0; from < releases.length; from += RELEASES_AT_ONCE) {
        const some = releases.slice(from, from + RELEASES_AT_ONCE)
        const reply = await redis.run(
          NOTE,
          some.flatMap((release) => [release.id, packRelease(release)]),
        )
        if (reply[0] !== 'noted') throw unexpected(reply)
      }
    },
    async *all() {
      const [tag, ...ids] = await redis.run(IDS, [])
      if (tag !== 'ids') throw unexpected([tag ?? ''])
      for (let from = 0; from < ids.length; from += RELEASES_AT_ONCE) {
        const some = ids.slice(from, from + RELEASES_AT_ONCE)
        const reply = await redis.run(READ, some)
        if (reply[0] !== 'packed' || reply.length !== some.length + 1) throw unexpected(reply)
        for (const [index, id] of some.entries()) {
          const packed = reply[index + 1]
          if (packed) yield unpackRelease(id, packed)
        }
      }
    },
  }
}
