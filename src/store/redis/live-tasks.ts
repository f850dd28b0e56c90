/** Live tasks by whom they are for, in Redis: along the set of those that have not ended. */
import { type Candidate, idsOf, type LiveTasks, withBelow } from '../../tasks/live-tasks.ts'
import { stateAt, type Task, type TaskState } from '../../tasks/task.ts'
import { type RedisClient, script, unexpected } from './client.ts'

/**
 * After which deadline, and how many. All of the last deadline's: a page that began within them would move with what ends
 * meanwhile. Answers the deadline to go on after, or nothing where that was all.
 */
const IDS = script(
  `
local found = redis.call('ZRANGE', K .. 'tasks:deadline', '(' .. arg(1), '+inf', 'BYSCORE', 'LIMIT', 0, arg(2))
if #found < tonumber(arg(2)) then return {'ids', '', table.concat(found, ' ')} end
local last = redis.call('ZSCORE', K .. 'tasks:deadline', found[#found])
while #found > 0 and redis.call('ZSCORE', K .. 'tasks:deadline', found[#found]) == last do found[#found] = nil end
for _, id in ipairs(redis.call('ZRANGE', K .. 'tasks:deadline', last, last, 'BYSCORE')) do found[#found + 1] = id end
return {'ids', last, table.concat(found, ' ')}
`,
  { critical: true },
)

const READ = script(
  `
local answer = {'tasks'}
for n = 1, args do
  local task = redis.call('HMGET', K .. 'task:' .. arg(n), 'fixed', 'state', 'heartbeat_by')
  for part = 1, 3 do answer[#answer + 1] = task[part] or '' end
end
return answer
`,
  { critical: true },
)
const FIELDS = 3
const PAGE = 200
const IDS_AT_ONCE = 2_000

type Fixed = Omit<Task, 'state' | 'spent'>

export function createLiveTasks({ redis }: { redis: RedisClient }): LiveTasks {
  async function* live(now: number): AsyncGenerator<Fixed> {
    for (let after = String(now); after !== ''; ) {
      const [tag, last, text] = await redis.run(IDS, [after, IDS_AT_ONCE])
      if (tag !== 'ids' || last === undefined || text === undefined) throw unexpected([tag ?? ''])
      yield* read(text === '' ? [] : text.split(' '), now)
      after = last
    }
  }

  async function* read(ids: readonly string[], now: number): AsyncGenerator<Fixed> {
    for (let from = 0; from < ids.length; from += PAGE) {
      const reply = await redis.run(READ, ids.slice(from, from + PAGE))
      if (reply[0] !== 'tasks') throw unexpected(reply)
      for (let at = 1; at < reply.length; at += FIELDS) {
        const [fixed, state, heartbeatBy] = reply.slice(at, at + FIELDS)
        if (!fixed || (state !== 'active' && state !== 'suspended')) continue
        const task = JSON.parse(fixed) as Fixed
        const moving = { state: state as TaskState, deadline: task.deadline }
        if (stateAt({ ...moving, ...(heartbeatBy ? { heartbeatBy: Number(heartbeatBy) } : {}) }, now) !== 'expired')
          yield task
      }
    }
  }

  return {
    matching: async ({ agent, agentSpiffeId, domain, release, subject }, now, limit) => {
      const found: Candidate[] = []
      for await (const { id, parent, agent: of, agentSpiffeId: spiffeId, subject: user, release: by } of live(now)) {
        const named =
          (agent === undefined || of === agent) &&
          (agentSpiffeId === undefined || spiffeId === agentSpiffeId) &&
          (domain === undefined || spiffeId.startsWith(idsOf(domain))) &&
          (release === undefined || by === release) &&
          (subject === undefined || user.id === subject)
        if (named || parent !== undefined)
          found.push({ id, agent: of, subject: user.id, named, ...(parent === undefined ? {} : { parent }) })
      }
      return withBelow(found, limit)
    },
  }
}
