-- A new job, or the one that this request made before.
local id, client, request_id, digest, priority = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local deadline_s, ttl = tonumber(ARGV[6]), tonumber(ARGV[7])
local queue_bound, client_bound, kept, ticket_queue = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11]
local time = now()

if redis.call('EXISTS', key('job', id)) == 1 then
  return {'known', id}  -- this very call, sent again by the connection
end
if request_id ~= '' then
  local known = redis.call('GET', key('request', client, request_id))
  if known and redis.call('EXISTS', key('job', known)) == 1 then
    return {field(known, 'digest') == digest and 'known' or 'reused', known}
  end
end
if redis.call('SCARD', key('live', client)) >= client_bound then
  return {'client_full', ''}
end
local pending = redis.call('ZCARD', key('pending'))
if pending >= queue_bound then
  return {'full', ''}
end

local sequence = redis.call('INCR', key('sequence'))
local deadline = time + deadline_s
redis.call('HSET', key('job', id),
  'id', id, 'sequence', sequence, 'client', client, 'request_id', request_id, 'digest', digest, 'priority', priority,
  'state', 'PENDING', 'step', 0, 'attempts', 0, 'fence', 0, 'ticket', '', 'revision', 0, 'ttl', ttl,
  'create_time', time, 'start_time', 0, 'end_time', 0, 'deadline_time', deadline, 'expire_time', deadline + ttl)
for at = 12, #ARGV, 2 do
  redis.call('HSET', key('job', id), ARGV[at], ARGV[at + 1])
end
if request_id ~= '' then
  redis.call('SET', key('request', client, request_id), id)
end
redis.call('ZADD', key('jobs'), sequence, id)
redis.call('ZADD', key('jobs', client), sequence, id)
redis.call('SADD', key('live', client), id)
redis.call('ZADD', key('deadlines'), deadline, id)
enqueue(id, client, priority, false)
changed(id, 'queue')

-- The client's oldest jobs make room; upkeep removes them.
local surplus = redis.call('ZCARD', key('jobs', client)) - kept
if surplus > 0 then
  for _, old in ipairs(redis.call('ZRANGE', key('jobs', client), 0, surplus - 1)) do
    local state = field(old, 'state')
    if state ~= 'PENDING' and state ~= 'RUNNING' then
      redis.call('ZADD', key('expiry'), time, old)
    end
  end
end
-- Tickets of jobs that were cancelled lie in the queue still: they do for this one.
return {redis.call('LLEN', ticket_queue) <= pending and 'created' or 'ticketed', id}
