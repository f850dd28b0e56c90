/**
 * The steps of the revocation log in Redis. An entry is a hash by its sequence; beside it four indexes from
 * `shape|value` to the entries that matter there, newest first: cuts, absolutes, bans and containments.
 */
import { LIFTS_KEPT_SECONDS } from '../ledger.ts'
import { TOLD_SECONDS } from '../revocations.ts'
import { script } from './client.ts'

/**
 * An index field holds a list of [sequence, generation, id, expires or until], all strings; a suspension a fifth, '1'; what
 * kills before a mark two more, the mark's sequence and generation; among containments a fifth, the revocation it closes.
 */
export const INDEX = `
local function live_shapes()
  return redis.call('HKEYS', K .. 'rev:shapes')
end
local function counted(shape)
  return math.max(0, tonumber(redis.call('HGET', K .. 'rev:shapes', shape) or '0'))
end
local function set_count(shape, left)
  redis.call('HSET', K .. 'rev:shapes', shape, string.format('%.0f', left))
end
-- The version first: who knows an older one asks for the shapes again.
local function count_in(shape)
  local left = counted(shape) + 1
  if left == 1 then redis.call('INCR', K .. 'rev:shapes:version') end
  set_count(shape, left)
end
local function remaining(shape)
  local found, start = 0, shape .. '|'
  for _, index in ipairs({'cuts', 'absolutes', 'bans', 'containments'}) do
    for _, field in ipairs(redis.call('HKEYS', K .. 'rev:' .. index)) do
      if string.sub(field, 1, #start) == start then found = found + 1 end
    end
  end
  return found
end
-- A count may have missed some. No shape goes while anything of it is left: it would no longer be asked for.
local function count_out(shape, gone)
  local left = counted(shape) - gone
  if left <= 0 then left = remaining(shape) end
  if left > 0 then return set_count(shape, left) end
  redis.call('INCR', K .. 'rev:shapes:version')
  redis.call('HDEL', K .. 'rev:shapes', shape)
end
local function read(index, field)
  local text = redis.call('HGET', K .. 'rev:' .. index, field)
  return text and cjson.decode(text) or {}
end
local function write(index, field, items)
  if #items == 0 then redis.call('HDEL', K .. 'rev:' .. index, field)
  else redis.call('HSET', K .. 'rev:' .. index, field, cjson.encode(items)) end
end
local function insert(index, shape, field, item)
  local items = {item}
  for _, other in ipairs(read(index, field)) do items[#items + 1] = other end
  count_in(shape)
  write(index, field, items)
end
local function remove(index, shape, field, sequence)
  local left, gone = {}, 0
  for _, item in ipairs(read(index, field)) do
    if item[1] == sequence then gone = gone + 1 else left[#left + 1] = item end
  end
  if gone > 0 then
    write(index, field, left)
    count_out(shape, gone)
  end
end
local parts = {'body', 'shape', 'field', 'kills', 'ban', 'until', 'expires', 'readmitted', 'generation'}
local function entry(sequence)
  local values, found = redis.call('HMGET', K .. 'rev:entry:' .. sequence, unpack(parts)), {}
  for n, part in ipairs(parts) do found[part] = values[n] or '' end
  return found
end
-- An entry is whole once its id says where it stands; what is not whole was never acknowledged.
local function is_whole(sequence, one)
  return one.body ~= '' and redis.call('HGET', K .. 'rev:ids', cjson.decode(one.body).id) == sequence
end
local function find(id)
  local sequence = redis.call('HGET', K .. 'rev:ids', id)
  if not sequence then return end
  local one = entry(sequence)
  if one.body ~= '' and cjson.decode(one.body).id == id then return sequence, one end
end
local function show(answer, sequence)
  local one = entry(sequence)
  if not is_whole(sequence, one) then return end
  answer[#answer + 1] = one.generation
  answer[#answer + 1] = sequence
  answer[#answer + 1] = one.body
  answer[#answer + 1] = one.readmitted
end
-- A ban that is over leaves the index; its entry may then go when it has expired. The entry says it first.
local function lift(sequence, one, readmitted)
  redis.call('HSET', K .. 'rev:entry:' .. sequence, 'ban', '', 'readmitted', readmitted)
  remove('bans', one.shape, one.field, sequence)
  redis.call('ZREM', K .. 'rev:open', sequence)
  redis.call('ZREM', K .. 'rev:until', sequence)
  redis.call('ZADD', K .. 'rev:expiry', one.expires, sequence)
end
-- Stays when the entry is gone: who still holds it learns from this, and from nothing else, that it is over. Written before the
-- entry is lifted: begun and not ended, it lifts nothing.
local function record_lift(id, at, readmitted)
  redis.call('ZADD', K .. 'rev:lifts:order', 'NX', at, id)
  redis.call('HSETNX', K .. 'rev:lifts', id, readmitted)
end
`

/**
 * id, body, shape, field, kind of kill, ban?, until, expires, most conjunctions, channel, suspension?,
 * the revocation after which tasks are read again, the mark's sequence and generation: then it is open until it is lifted,
 * and keeps nothing out.
 */
export const ADD = script(
  `${INDEX}
local id, body, shape, field, kills, ban, til, expires, generation =
  arg(1), arg(2), arg(3), arg(4), arg(5), arg(6), arg(7), arg(8), generation_number()
local known, before = find(id)
local function indexed()
  for _, item in ipairs(read(before.kills, before.field)) do
    if item[1] == known and redis.call('HEXISTS', K .. 'rev:shapes', before.shape) == 1 then return true end
  end
end
-- Known and not indexed: an older version began it. It is over where it has expired, and done again where it has not.
if known and (indexed() or redis.call('ZSCORE', K .. 'rev:expiry', known) == false) then
  local answer = {'known'}
  show(answer, known)
  return answer
end
if string.find(shape, '+', 1, true) and redis.call('HEXISTS', K .. 'rev:shapes', shape) == 0 then
  local conjunctions = 0
  for _, one in ipairs(live_shapes()) do
    if string.find(one, '+', 1, true) then conjunctions = conjunctions + 1 end
  end
  if conjunctions >= tonumber(arg(9)) then return {'full'} end
end
-- Not INCR: done half, and again by the next, it would leave a place without an entry.
local sequence = string.format('%.0f', tonumber(redis.call('GET', K .. 'rev:sequence') or '0') + 1)
redis.call('SET', K .. 'rev:sequence', sequence)
redis.call('HSET', K .. 'rev:entry:' .. sequence, 'body', body, 'shape', shape, 'field', field,
  'kills', kills, 'ban', ban, 'until', til, 'expires', expires, 'readmitted', '', 'generation', generation)
redis.call('ZADD', K .. 'rev:expiry', expires, sequence)
if arg(12) ~= '' then
  insert('containments', shape, field, {sequence, generation, id, expires, arg(12)})
  redis.call('ZADD', K .. 'rev:told', string.format('%.0f', cjson.decode(body).at + ${TOLD_SECONDS}), sequence)
end
insert(kills, shape, field, {sequence, generation, id, expires, arg(13), arg(14)})
if ban == '1' then
  if arg(13) == '' then insert('bans', shape, field, {sequence, generation, id, til, arg(11)}) end
  redis.call('ZADD', K .. 'rev:open', sequence, sequence)
  if til ~= '' then redis.call('ZADD', K .. 'rev:until', til, sequence) end
end
redis.call('ZADD', K .. 'rev:order', sequence, sequence)
-- Last: who asks again with this id is told that it is done.
redis.call('HSET', K .. 'rev:ids', id, sequence)
redis.call('PUBLISH', K .. arg(10), sequence)
local answer = {'added'}
show(answer, sequence)
return answer
`,
  { critical: true },
)

/**
 * now, version of the known shapes, their number m, number of hops h, issuing?, then for each hop: generation and
 * sequence of its rev and m fields; then, where something is issued, its m fields. An empty field cannot match.
 */
export const CHECK = script(
  `
local now, m, hops, issuing = tonumber(arg(1)), tonumber(arg(3)), tonumber(arg(4)), arg(5) == '1'
if issuing and redis.call('EXISTS', K .. 'sealed') == 1 then return {'sealed', redis.call('GET', K .. 'sealed')} end
local version = redis.call('GET', K .. 'rev:shapes:version') or '0'
local sequence = redis.call('GET', K .. 'rev:sequence') or '0'
if version ~= arg(2) then return {'shapes', version, unpack(redis.call('HKEYS', K .. 'rev:shapes'))} end
-- What was indexed and is not the entry of its place was begun, lost, and brought back by half.
local function holds(item, ban)
  local one = redis.call('HMGET', K .. 'rev:entry:' .. item[1], 'body', 'ban')
  return one[1] and cjson.decode(one[1]).id == item[3] and redis.call('HGET', K .. 'rev:ids', item[3]) == item[1]
    and (not ban or one[2] == '1')
end
local function items(index, field)
  if field == '' then return {} end
  local text = redis.call('HGET', K .. 'rev:' .. index, field)
  return text and cjson.decode(text) or {}
end
local function newer(item, generation, rev)
  local place, of = item[1], item[2]
  if item[5] and item[5] ~= '' then place, of = item[5], item[6] end
  return tonumber(of) > generation or (tonumber(of) == generation and tonumber(place) > rev)
end
local at, dead, hop = 6, '', ''
local fields = {}
for n = 0, hops - 1 do
  local generation, rev = tonumber(arg(at)), tonumber(arg(at + 1))
  for k = 1, m do
    local field = arg(at + 1 + k)
    fields[#fields + 1] = field
    if dead == '' then
      for _, item in ipairs(items('absolutes', field)) do
        if dead == '' and holds(item) then dead, hop = item[3], tostring(n) end
      end
      for _, item in ipairs(items('cuts', field)) do
        if dead == '' and newer(item, generation, rev) and holds(item) then dead, hop = item[3], tostring(n) end
      end
    end
  end
  at = at + 2 + m
end
local banned, shape, suspended = '', '', ''
local function forbid(field, k)
  for _, ban in ipairs(items('bans', field)) do
    if (ban[4] == '' or now < tonumber(ban[4])) and holds(ban, true) then
      banned, shape, suspended = ban[3], tostring(k), ban[5] or ''
    end
  end
end
if issuing then
  for k = 1, m do if banned == '' then forbid(arg(at - 1 + k), k) end end
  for n, field in ipairs(fields) do if banned == '' then forbid(field, (n - 1) % m + 1) end end
end
local answer = {'checked', generation_number() .. '.' .. sequence, dead, hop, banned, shape, suspended}
if issuing and redis.call('EXISTS', K .. 'rev:containments') == 1 then
  local seen = {}
  for k = 1, m do fields[#fields + 1] = arg(at - 1 + k) end
  for _, field in ipairs(fields) do
    for _, item in ipairs(items('containments', field)) do
      if not seen[item[3]] and holds(item) then
        answer[#answer + 1] = item[3]
        answer[#answer + 1] = item[5] or item[3]
      end
      seen[item[3]] = true
    end
  end
end
return answer
`,
  { critical: true },
)

/** channel. */
export const MARK = script(
  `
local sequence = string.format('%.0f', tonumber(redis.call('GET', K .. 'rev:sequence') or '0') + 1)
redis.call('SET', K .. 'rev:sequence', sequence)
redis.call('PUBLISH', K .. arg(1), sequence)
return {'marked', generation_number() .. '.' .. sequence}
`,
  { critical: true },
)

export const EPOCH = script(
  "return {'epoch', generation_number() .. '.' .. (redis.call('GET', K .. 'rev:sequence') or '0')}",
  { critical: true },
)

export const GET = script(
  `${INDEX}
local answer = {'entries'}
local sequence = find(arg(1))
if sequence then show(answer, sequence) end
return answer
`,
  { critical: true },
)

/** index (`order` or `open`), after which sequence, how many. Answers where to go on, or nothing where that was all. */
export const PAGE = script(
  `${INDEX}
local places = redis.call('ZRANGE', K .. 'rev:' .. arg(1), '(' .. arg(2), '+inf', 'BYSCORE', 'LIMIT', 0, arg(3))
local answer = {'page', #places == tonumber(arg(3)) and places[#places] or ''}
for _, sequence in ipairs(places) do show(answer, sequence) end
return answer
`,
  { critical: true },
)

/** id, now, what is recorded. */
export const READMIT = script(
  `${INDEX}
local sequence, one = find(arg(1))
if not sequence then return {'no'} end
if one.ban ~= '1' or (one['until'] ~= '' and tonumber(arg(2)) >= tonumber(one['until'])) then return {'no'} end
record_lift(arg(1), arg(2), arg(3))
lift(sequence, one, arg(3))
return {'done'}
`,
  { critical: true },
)

/** now. A ban outlives what its entry kills: that entry stays, without killing, until the ban is over. */
export const PRUNE = script(
  `${INDEX}
local now = arg(1)
local over = redis.call('ZRANGE', K .. 'rev:until', '-inf', now, 'BYSCORE', 'LIMIT', 0, 200)
for _, sequence in ipairs(over) do
  local one = entry(sequence)
  -- The entry is right where the two differ.
  if one['until'] ~= '' and tonumber(one['until']) <= tonumber(now) then lift(sequence, one, one.readmitted)
  else redis.call('ZREM', K .. 'rev:until', sequence) end
end
local told = redis.call('ZRANGE', K .. 'rev:told', '-inf', now, 'BYSCORE', 'LIMIT', 0, 200)
for _, sequence in ipairs(told) do
  local one = entry(sequence)
  remove('containments', one.shape, one.field, sequence)
  redis.call('ZREM', K .. 'rev:told', sequence)
end
local expired = redis.call('ZRANGE', K .. 'rev:expiry', '-inf', now, 'BYSCORE', 'LIMIT', 0, 200)
for _, sequence in ipairs(expired) do
  local one = entry(sequence)
  remove(one.kills, one.shape, one.field, sequence)
  remove('containments', one.shape, one.field, sequence)
  redis.call('ZREM', K .. 'rev:order', sequence)
  local whole = is_whole(sequence, one)
  if one.ban ~= '1' or not whole then
    remove('bans', one.shape, one.field, sequence)
    redis.call('ZREM', K .. 'rev:open', sequence)
    redis.call('ZREM', K .. 'rev:until', sequence)
    redis.call('DEL', K .. 'rev:entry:' .. sequence)
    if whole then redis.call('HDEL', K .. 'rev:ids', cjson.decode(one.body).id) end
  end
  redis.call('ZREM', K .. 'rev:expiry', sequence)
end
local forgotten = redis.call('ZRANGE', K .. 'rev:lifts:order', '-inf', tonumber(now) - ${LIFTS_KEPT_SECONDS}, 'BYSCORE', 'LIMIT', 0, 200)
for _, id in ipairs(forgotten) do
  redis.call('HDEL', K .. 'rev:lifts', id)
  redis.call('ZREM', K .. 'rev:lifts:order', id)
end
return {(#over > 0 or #told > 0 or #expired > 0 or #forgotten > 0) and 'more' or 'done'}
`,
  { critical: true },
)
