-- What time does to jobs. Gives the tickets that are missing, the jobs taken from lost workers, and files to remove.
local attempts, problem, ticket_queue, trust_leases = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4] == '1'
local time, most = now(), 100

for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('deadlines'), '-inf', time, 'LIMIT', 0, most)) do
  settle(id, 'EXPIRED', time)
end
local lost = 0
if trust_leases then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('running'), '-inf', time, 'LIMIT', 0, most)) do
    lost = lost + 1
    if tonumber(field(id, 'attempts')) >= attempts then
      fail(id, time, problem)
    else
      put_back(id)
    end
  end
end
redis.call('ZREMRANGEBYSCORE', key('workers'), '-inf', time)

local files = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('expiry'), '-inf', time, 'LIMIT', 0, most)) do
  local client, request_id = field(id, 'client'), field(id, 'request_id')
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
return {math.max(0, missing), lost, files}
