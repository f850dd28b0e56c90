/** The task tree in Redis: one hash per task, one field per remembered operation, nothing per token. */
import { type Containment, leftOf } from '../../tasks/containment.ts'
import type { Task, TaskState } from '../../tasks/task.ts'
import type { ReservationAnswer, TaskStore } from '../../tasks/task-store.ts'
import { touchedBy } from '../../tasks/touched.ts'
import { checkAmount } from '../reservation.ts'
import { type RedisClient, type Reply, script, short, unexpected } from './client.ts'

/** A task as its reply says it: what never changes, and the fields that do. */
const READ = `
local moving = {'fixed', 'state', 'heartbeat_by', 'ended_at', 'ended_reason', 'calls', 'exchanges', 'cost',
  'suspended_by', 'contained'}
local function append(answer, id)
  local task = redis.call('HMGET', K .. 'task:' .. id, unpack(moving))
  if not task[1] then return end
  for n = 1, #moving do answer[#answer + 1] = task[n] or '' end
end
`
const FIELDS = 10

/** The state that holds at \`now\`, as \`stateAt\` of tasks/task.ts has it. */
const STATE_AT = `
local function state_of(task, now)
  if not task[1] then return 'unknown' end
  if task[1] ~= 'active' and task[1] ~= 'suspended' then return task[1] end
  if now >= tonumber(task[2]) then return 'expired' end
  if task[1] == 'active' and task[3] and now > tonumber(task[3]) then return 'expired' end
  return task[1]
end
local function state_at(id, now)
  return state_of(redis.call('HMGET', K .. 'task:' .. id, 'state', 'deadline', 'heartbeat_by'), now)
end
`

const OPEN = script(`${STATE_AT}
local id, parent, now = arg(1), arg(2), tonumber(arg(3))
local key = K .. 'task:' .. id
if redis.call('ZSCORE', K .. 'tasks', id) then return {'exists'} end
local above = parent
while above and above ~= '' do
  if state_at(above, now) ~= 'active' then return {'parent_not_active'} end
  above = redis.call('HGET', K .. 'task:' .. above, 'parent')
end
local fields = {'parent', parent}
local contained = parent ~= '' and redis.call('HGET', K .. 'task:' .. parent, 'contained')
if contained then fields = {'parent', parent, 'contained', contained} end
for n = 7, args do fields[#fields + 1] = arg(n) end
redis.call('HSET', key, unpack(fields))
local task = redis.call('HMGET', key, 'state', 'deadline', 'heartbeat_by')
if task[1] == 'active' or task[1] == 'suspended' then
  redis.call('ZADD', K .. 'tasks:deadline', task[2], id)
  if task[1] == 'active' and task[3] then redis.call('ZADD', K .. 'tasks:heartbeat', task[3], id) end
else
  redis.call('ZADD', K .. 'tasks:ended', task[2], id)
end
if parent ~= '' then redis.call('RPUSH', K .. 'children:' .. parent, id) end
redis.call('RPUSH', K .. 'tree:' .. arg(4), id)
-- Last: a task that is not among them is opened, whatever of it is there.
redis.call('ZADD', K .. 'tasks', arg(5), id)
return {'opened'}
`)

const GET = script(
  `${READ}
local answer = {'tasks'}
append(answer, arg(1))
return answer
`,
  { critical: true },
)

const TREE = script(
  `${READ}
local answer = {'tasks'}
local seen = {}
for _, id in ipairs(redis.call('LRANGE', K .. 'tree:' .. arg(1), 0, -1)) do
  if not seen[id] then append(answer, id) end
  seen[id] = true
end
return answer
`,
  { critical: true },
)

const NEWEST = script(
  `${READ}
local answer = {'tasks'}
for _, id in ipairs(redis.call('ZREVRANGE', K .. 'tasks', arg(1), arg(2))) do append(answer, id) end
return answer
`,
  { critical: true },
)

/** The task and every descendant that has not ended, parents before children. */
const LIVE_FROM = `
local function stored_live(one)
  local stored = redis.call('HGET', K .. 'task:' .. one, 'state')
  return stored == 'active' or stored == 'suspended'
end
local function live_from(answer, id, lives)
  if not lives(id) then return answer end
  local level, seen = {id}, {}
  while #level > 0 do
    local below = {}
    for _, task in ipairs(level) do
      answer[#answer + 1] = task
      for _, child in ipairs(redis.call('LRANGE', K .. 'children:' .. task, 0, -1)) do
        if not seen[child] and lives(child) then below[#below + 1] = child end
        seen[child] = true
      end
    end
    level = below
  end
  return answer
end
`

/** Who holds a suspended task, as ids with a space between them. */
const HOLDERS = `
local function holders_but(key, by)
  local others = {}
  for one in string.gmatch(redis.call('HGET', key, 'suspended_by') or '', '%S+') do
    if one ~= by then others[#others + 1] = one end
  end
  return others
end
`

const END = script(
  `${LIVE_FROM}${HOLDERS}
local id, state, reason, at = arg(1), arg(2), arg(3), arg(4)
local answer = live_from({'ended'}, id, stored_live)
-- From the lowest up: while one above lives, who asks again finds all that is left.
for n = #answer, 2, -1 do
  local task = answer[n]
  local key = K .. 'task:' .. task
  redis.call('ZADD', K .. 'tasks:ended', redis.call('HGET', key, 'deadline'), task)
  redis.call('HSET', key, 'state', state, 'ended_reason', reason, 'ended_at', at)
  for _, by in ipairs(holders_but(key, '')) do
    redis.call('SREM', K .. 'held:' .. by, task)
    if redis.call('EXISTS', K .. 'held:' .. by) == 0 then redis.call('SREM', K .. 'holders', by) end
  end
  redis.call('HDEL', key, 'suspended_by')
  redis.call('ZREM', K .. 'tasks:deadline', task)
  redis.call('ZREM', K .. 'tasks:heartbeat', task)
end
return answer
`,
  { critical: true },
)

const CONTAIN = script(
  `${LIVE_FROM}${STATE_AT}
local id, containment, now = arg(1), cjson.decode(arg(2)), tonumber(arg(3))
local answer = live_from({'contained'}, id, function(one)
  return stored_live(one) and state_at(one, now) ~= 'expired'
end)
-- From the lowest up: while one above has it still, who asks again finds all that is left.
for n = #answer, 2, -1 do
  local key = K .. 'task:' .. answer[n]
  local before, known = redis.call('HGET', key, 'contained'), false
  for _, one in ipairs(before and cjson.decode(before) or {}) do known = known or one.by == containment.by end
  -- As text: an empty list would not come back as one.
  if not known then
    redis.call('HSET', key, 'contained', before and string.sub(before, 1, -2) .. ',' .. arg(2) .. ']' or '[' .. arg(2) .. ']')
  end
end
return answer
`,
  { critical: true },
)

const SUSPEND = script(
  `${LIVE_FROM}${STATE_AT}${HOLDERS}
local id, by, now = arg(1), arg(2), tonumber(arg(3))
-- One that missed its heartbeat has ended, also where nobody has swept yet: it must not wake again.
local answer = live_from({'suspended'}, id, function(one)
  return stored_live(one) and state_at(one, now) ~= 'expired'
end)
-- From the lowest up: while one above is not held, who asks again finds all that is left.
for n = #answer, 2, -1 do
  local key = K .. 'task:' .. answer[n]
  local holders = holders_but(key, '')
  if #holders == #holders_but(key, by) then holders[#holders + 1] = by end
  redis.call('SADD', K .. 'holders', by)
  redis.call('SADD', K .. 'held:' .. by, answer[n])
  redis.call('ZREM', K .. 'tasks:heartbeat', answer[n])
  redis.call('HSET', key, 'suspended_by', table.concat(holders, ' '), 'state', 'suspended')
end
return answer
`,
  { critical: true },
)

/** by, now, how many. What was let go of leaves the list last: cut short, it is let go of again. */
const WAKE = script(
  `${HOLDERS}
local by, now = arg(1), arg(2)
local held = redis.call('SRANDMEMBER', K .. 'held:' .. by, arg(3))
local answer = {#held == tonumber(arg(3)) and 'more' or 'done'}
for _, id in ipairs(held) do
  local key = K .. 'task:' .. id
  if redis.call('HGET', key, 'state') == 'suspended' then
    local others = holders_but(key, by)
    if #others > 0 then redis.call('HSET', key, 'suspended_by', table.concat(others, ' '))
    else
      local seconds = redis.call('HGET', key, 'heartbeat_seconds')
      local beat = seconds and string.format('%.0f', tonumber(now) + tonumber(seconds))
      redis.call('HDEL', key, 'suspended_by')
      if beat then redis.call('HSET', key, 'state', 'active', 'heartbeat_by', beat)
      else redis.call('HSET', key, 'state', 'active') end
      if beat then redis.call('ZADD', K .. 'tasks:heartbeat', beat, id) end
      answer[#answer + 1] = id
    end
  end
  redis.call('SREM', K .. 'held:' .. by, id)
end
if answer[1] == 'done' then redis.call('SREM', K .. 'holders', by) end
return answer
`,
  { critical: true },
)

const ALL_HOLDERS = script("return {'holders', unpack(redis.call('SMEMBERS', K .. 'holders'))}", { critical: true })

const BEAT = script(
  `${STATE_AT}
local id, now = arg(1), tonumber(arg(2))
if state_at(id, now) ~= 'active' then return {'no'} end
local seconds = redis.call('HGET', K .. 'task:' .. id, 'heartbeat_seconds')
if seconds then
  local by = string.format('%.0f', now + tonumber(seconds))
  redis.call('HSET', K .. 'task:' .. id, 'heartbeat_by', by)
  redis.call('ZADD', K .. 'tasks:heartbeat', by, id)
end
return {'done'}
`,
  { critical: true },
)

const RESERVE = script(`${STATE_AT}
local id, operation, now = arg(1), arg(2), tonumber(arg(3))
local amounts = {calls = tonumber(arg(4)), exchanges = tonumber(arg(5)), cost = tonumber(arg(6))}
local names = {'calls', 'exchanges', 'cost'}
if operation ~= '' then
  local first = redis.call('HGET', K .. 'operations:' .. id, operation)
  if first then return {'reserved', first} end
end
local line, task = {}, id
while task and task ~= '' do
  -- Each task is read once; its parent, what is spent and what may be stand from the fourth place on.
  local one = redis.call('HMGET', K .. 'task:' .. task, 'state', 'deadline', 'heartbeat_by', 'parent',
    'calls', 'exchanges', 'cost', 'max_calls', 'max_exchanges', 'max_cost')
  local state = state_of(one, now)
  if state ~= 'active' then return {'not_active', state} end
  one.id = task
  line[#line + 1] = one
  task = one[4]
end
for _, one in ipairs(line) do
  for n, name in ipairs(names) do
    local limit = tonumber(one[7 + n] or '9007199254740991')
    if amounts[name] > 0 and tonumber(one[4 + n]) + amounts[name] > limit then return {'exhausted', one.id, name} end
  end
end
for _, one in ipairs(line) do
  for n, name in ipairs(names) do
    if amounts[name] > 0 then
      local sum = redis.call('HINCRBY', K .. 'task:' .. one.id, name, string.format('%.0f', amounts[name]))
      one[4 + n] = string.format('%.0f', sum)
    end
  end
end
local spent = table.concat(line[1], ' ', 5, 7)
if operation ~= '' then redis.call('HSET', K .. 'operations:' .. id, operation, spent) end
return {'reserved', spent}
`)

const DUE = script(
  `
local answer, limit = {'due'}, tonumber(arg(2))
local seen = {}
local function take(ids)
  for _, id in ipairs(ids) do
    if not seen[id] and #answer <= limit then
      seen[id] = true
      answer[#answer + 1] = id
    end
  end
end
take(redis.call('ZRANGE', K .. 'tasks:deadline', '-inf', arg(1), 'BYSCORE', 'LIMIT', 0, limit))
take(redis.call('ZRANGE', K .. 'tasks:heartbeat', '-inf', '(' .. arg(1), 'BYSCORE', 'LIMIT', 0, limit))
return answer
`,
  { critical: true },
)

const PRUNE = script(
  `
local old = redis.call('ZRANGE', K .. 'tasks:ended', '-inf', '(' .. arg(1), 'BYSCORE', 'LIMIT', 0, 200)
for _, id in ipairs(old) do
  local root, parent = unpack(redis.call('HMGET', K .. 'task:' .. id, 'root', 'parent'))
  if root then redis.call('LREM', K .. 'tree:' .. root, 0, id) end
  if parent then redis.call('LREM', K .. 'children:' .. parent, 0, id) end
  redis.call('DEL', K .. 'task:' .. id, K .. 'children:' .. id, K .. 'operations:' .. id)
  for _, set in ipairs({'tasks', 'tasks:deadline', 'tasks:heartbeat', 'tasks:ended'}) do redis.call('ZREM', K .. set, id) end
end
return {#old > 0 and 'more' or 'done'}
`,
  { critical: true },
)

const PAGE = 100
const MAX_READ = 2000
const WOKEN_AT_ONCE = 200

type Fixed = Omit<Task, 'state' | 'spent'>

export function createTaskStore(deps: { redis: RedisClient }): TaskStore {
  const { redis } = deps
  /** By its text: most of a task never changes, and is read again for each of its tokens. */
  const read = new Map<string, Fixed>()

  function fixedOf(text: string): Fixed {
    const known = read.get(text)
    if (known) return known
    const fixed = JSON.parse(text) as Fixed
    if (read.size >= MAX_READ) read.delete(read.keys().next().value!)
    read.set(text, fixed)
    return fixed
  }

  return {
    open: async (task, now) => {
      const values = [task.id, task.parent ?? '', now, task.root, task.createdAt, '', ...fieldsOf(task)]
      const reply = await redis.run(OPEN, values)
      const [outcome] = reply
      if (outcome !== 'opened' && outcome !== 'exists' && outcome !== 'parent_not_active') throw unexpected(reply)
      return outcome
    },
    get: async (id) => toTasks(await redis.run(GET, [id]), fixedOf)[0],
    tree: async (root) => toTasks(await redis.run(TREE, [root])),
    list: async ({ agent, agentSpiffeId, subject, state, notHeldBy, notContainedBy, touchedBy: by, limit }) => {
      const found: Task[] = []
      for (let from = 0; found.length < limit; from += PAGE) {
        const page = toTasks(await redis.run(NEWEST, [from, from + PAGE - 1]))
        if (page.length === 0) break
        found.push(
          ...page.filter(
            (task) =>
              (agent === undefined || task.agent === agent) &&
              (agentSpiffeId === undefined || task.agentSpiffeId === agentSpiffeId) &&
              (subject === undefined || task.subject.id === subject) &&
              (state === undefined || task.state === state) &&
              (notHeldBy === undefined || !task.suspendedBy?.includes(notHeldBy)) &&
              (by === undefined || touchedBy(task, by).length > 0) &&
              (notContainedBy === undefined || !task.contained?.some(({ by }) => by === notContainedBy)),
          ),
        )
      }
      return found.slice(0, limit)
    },
    end: async (id, state, reason, at) => {
      const reply = await redis.run(END, [id, state, reason, at])
      if (reply[0] !== 'ended') throw unexpected(reply)
      return reply.slice(1)
    },
    contain: async (id, containment, now) => {
      const reply = await redis.run(CONTAIN, [id, JSON.stringify(containment), now])
      if (reply[0] !== 'contained') throw unexpected(reply)
      return reply.slice(1)
    },
    suspend: async (id, by, now) => {
      const reply = await redis.run(SUSPEND, [id, by, now])
      if (reply[0] !== 'suspended') throw unexpected(reply)
      return reply.slice(1)
    },
    wake: async (by, now) => {
      const woken: string[] = []
      // In parts: one script may not hold up everybody else.
      for (;;) {
        const [more, ...ids] = await redis.run(WAKE, [by, now, WOKEN_AT_ONCE])
        woken.push(...ids)
        if (more !== 'more') return woken
      }
    },
    holders: async () => (await redis.run(ALL_HOLDERS, [])).slice(1),
    beat: async (id, now) => (await redis.run(BEAT, [id, now]))[0] === 'done',
    reserve: async (id, amount, now) => {
      checkAmount(amount)
      const operation = amount.operationId === undefined ? '' : short(amount.operationId)
      return toAnswer(await redis.run(RESERVE, [id, operation, now, amount.calls, amount.exchanges, amount.cost]))
    },
    due: async (now, limit) => (await redis.run(DUE, [now, limit])).slice(1),
    prune: async (before) => {
      // In parts: one script may not hold up everybody else.
      while ((await redis.run(PRUNE, [before]))[0] === 'more');
    },
  }
}

function fieldsOf(task: Task): readonly (string | number)[] {
  const { state, heartbeatBy, endedAt, endedReason, suspendedBy: _, contained: __, spent, ...fixed } = task
  const fields: [string, string | number | undefined][] = [
    ['fixed', JSON.stringify(fixed)],
    ['root', task.root],
    ['state', state],
    ['deadline', task.deadline],
    ['heartbeat_seconds', task.heartbeatSeconds],
    ['heartbeat_by', heartbeatBy],
    ['ended_at', endedAt],
    ['ended_reason', endedReason],
    ['calls', spent.calls],
    ['exchanges', spent.exchanges],
    ['cost', spent.cost],
    ['max_calls', task.budget.maxCalls],
    ['max_exchanges', task.budget.maxExchanges],
    ['max_cost', task.budget.maxCost],
  ]
  return fields.flatMap(([name, value]) => (value === undefined ? [] : [name, value]))
}

function toTasks(reply: Reply, parse: (fixed: string) => Fixed = JSON.parse): readonly Task[] {
  if (reply[0] !== 'tasks' || (reply.length - 1) % FIELDS !== 0) throw unexpected(reply)
  const tasks: Task[] = []
  for (let index = 1; index < reply.length; index += FIELDS) {
    const [fixed, state, heartbeatBy, endedAt, endedReason, calls, exchanges, cost, suspendedBy, contained] =
      reply.slice(index, index + FIELDS)
    if (!fixed || !state) throw unexpected(reply)
    const base = parse(fixed)
    const taken = contained ? (JSON.parse(contained) as readonly Containment[]) : undefined
    tasks.push({
      ...base,
      ...(taken ? { contained: taken, authority: leftOf(base.authority, taken) } : {}),
      state: state as TaskState,
      ...(heartbeatBy ? { heartbeatBy: Number(heartbeatBy) } : {}),
      ...(suspendedBy ? { suspendedBy: suspendedBy.split(' ') } : {}),
      ...(endedAt ? { endedAt: Number(endedAt), endedReason: endedReason ?? '' } : {}),
      spent: { calls: Number(calls), exchanges: Number(exchanges), cost: Number(cost) },
    })
  }
  return tasks
}

function toAnswer(reply: Reply): ReservationAnswer {
  const [outcome, one, two] = reply
  if (outcome === 'reserved') {
    const [calls, exchanges, cost] = (one ?? '').split(' ').map(Number)
    if (calls === undefined || exchanges === undefined || cost === undefined) throw unexpected(reply)
    return { outcome, spent: { calls, exchanges, cost } }
  }
  if (outcome === 'exhausted' && one !== undefined && (two === 'calls' || two === 'exchanges' || two === 'cost')) {
    return { outcome, of: one, budget: two }
  }
  if (outcome === 'not_active' && one !== undefined) return { outcome, state: one as TaskState | 'unknown' }
  throw unexpected(reply)
}
