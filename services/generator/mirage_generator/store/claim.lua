-- The job of a ticket: the one that it had, where the ticket comes a second time, else the first of the queue.
local ticket, worker, fingerprint = ARGV[1], ARGV[2], ARGV[3]
local lease_s, attempts, problem = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local time = now()

local function claimed(id)
  return {id, tonumber(field(id, 'fence')), field(id, 'spec'), field(id, 'workload'),
    field(id, 'origin_request_id') or '', field(id, 'origin_traceparent') or ''}
end

local id = redis.call('HGET', key('tickets'), ticket)
if id and whole(id) and field(id, 'state') == 'RUNNING' then
  if field(id, 'worker') == worker and not past_deadline(id, time) then
    -- This very call, sent again by the connection, which is no other attempt.
    redis.call('ZADD', key('running'), time + lease_s, id)
    return claimed(id)
  end
  -- Its worker was lost, or this is not the only delivery: the fence shuts the other one out.
  release(id)
else
  id = nil
end
while true do
  id = id or take_first()
  if not id then
    return {}
  end
  local record = key('job', id)
  if not whole(id) then
    put_aside(id)
  elseif past_deadline(id, time) then
    settle(id, 'EXPIRED', time)
  elseif tonumber(field(id, 'attempts')) >= attempts then
    fail(id, time, problem)
  else
    redis.call('HINCRBY', record, 'fence', 1)
    redis.call('HINCRBY', record, 'attempts', 1)
    redis.call('HSET', record, 'state', 'RUNNING', 'step', 0, 'start_time', time, 'step_time', time,
      'ticket', ticket, 'worker', worker, 'fingerprint', fingerprint)
    redis.call('HSET', key('tickets'), ticket, id)
    redis.call('ZADD', key('running'), time + lease_s, id)
    changed(id, 'queue')
    return claimed(id)
  end
  id = nil
end
