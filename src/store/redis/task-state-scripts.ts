/** The steps that end, suspend, wake and narrow tasks in Redis, each with all that lives below. */
import { script } from './client.ts'
import { STATE_AT } from './task-scripts.ts'

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

export const END = script(
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

export const CONTAIN = script(
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

export const SUSPEND = script(
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
export const WAKE = script(
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

export const ALL_HOLDERS = script("return {'holders', unpack(redis.call('SMEMBERS', K .. 'holders'))}", {
  critical: true,
})
