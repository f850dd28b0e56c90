/** The steps of the task tree in Redis: opening, reading, charging, forgetting. A task is a hash, and stands in sets by time. */
import { script } from './client.ts'

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
/** As many as `READ` appends of each. */
export const FIELDS = 10

/** The state that holds at `now`, as `stateAt` of tasks/task.ts has it. */
export const STATE_AT = `
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

export const OPEN = script(`${STATE_AT}
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

export const GET = script(
  `${READ}
local answer = {'tasks'}
append(answer, arg(1))
return answer
`,
  { critical: true },
)

export const TREE = script(
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

export const NEWEST = script(
  `${READ}
local answer = {'tasks'}
for _, id in ipairs(redis.call('ZREVRANGE', K .. 'tasks', arg(1), arg(2))) do append(answer, id) end
return answer
`,
  { critical: true },
)

export const BEAT = script(
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

export const RESERVE = script(`${STATE_AT}
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

export const DUE = script(
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

export const PRUNE = script(
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
