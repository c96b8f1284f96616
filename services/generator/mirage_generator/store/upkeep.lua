-- What time does to jobs. Gives the tickets that are missing, what became of which jobs, and files to remove.
local attempts, problem, ticket_queue, trust_leases = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4] == '1'
local time, most = now(), 100
local changes = {}

local function note(id, change)
  table.insert(changes, {id, change, field(id, 'origin_request_id') or ''})
end

-- The jobs of a list whose time has come; those whose record is damaged are put aside.
local function due(list)
  local found = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key(list), '-inf', time, 'LIMIT', 0, most)) do
    if whole(id) then
      table.insert(found, id)
    else
      table.insert(changes, {id, 'damaged', ''})
      put_aside(id)
    end
  end
  return found
end

for _, id in ipairs(due('deadlines')) do
  note(id, 'expired')
  settle(id, 'EXPIRED', time)
end
if trust_leases then
  for _, id in ipairs(due('running')) do
    if tonumber(field(id, 'attempts')) >= attempts then
      note(id, 'given up')
      fail(id, time, problem)
    else
      note(id, 'put back')
      put_back(id)
    end
  end
end
redis.call('ZREMRANGEBYSCORE', key('workers'), '-inf', time)

local files = {}
for _, id in ipairs(due('expiry')) do
  local client, request_id = field(id, 'client'), field(id, 'request_id') or ''
  for _, file in ipairs(redis.call('LRANGE', key('files', id), 0, -1)) do
    redis.call('SREM', key('artifacts'), file)
    table.insert(files, file)
  end
  if request_id ~= '' and redis.call('GET', key('request', client, request_id)) == id then
    redis.call('DEL', key('request', client, request_id))
  end
  redis.call('ZREM', key('jobs'), id)
  redis.call('ZREM', key('jobs', client), id)
  redis.call('ZREM', key('expiry'), id)
  redis.call('DEL', key('job', id), key('files', id), key('preview', id))
  redis.call('PUBLISH', key('changes'), 'removed ' .. id)
end
local missing = redis.call('ZCARD', key('pending')) - redis.call('LLEN', ticket_queue)
return {math.max(0, missing), changes, files}
