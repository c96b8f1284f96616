-- A heartbeat of a job's worker, with a step done or (step -1) without. 0 where the job is not its any more.
local id, fence, lease_s, step = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local time = now()
if not owned(id, fence) then
  return 0
end
if past_deadline(id, time) then
  settle(id, 'EXPIRED', time)
  return 0
end
redis.call('ZADD', key('running'), time + lease_s, id)
if step >= 0 then
  redis.call('HSET', key('job', id), 'step', step, 'step_time', time)
  changed(id, 'step')
  if #ARGV > 4 then
    redis.call('HSET', key('preview', id), 'index', ARGV[5], 'step', ARGV[6], 'png', ARGV[7])
    redis.call('PEXPIRE', key('preview', id), 3600000)
    redis.call('PUBLISH', key('changes'), 'preview ' .. id)
  end
end
return 1
