-- The queue as it stands: jobs in the order in which they are taken, those that run, the workers, and measured times.
local function describe(id)
  return redis.call('HMGET', key('job', id), 'id', 'workload', 'steps', 'count', 'step', 'step_time')
end

local pending = {}
for _, priority in ipairs({'interactive', 'batch'}) do
  local lists = {}
  for _, client in ipairs(redis.call('LRANGE', key('rotation', priority), 0, -1)) do
    table.insert(lists, redis.call('LRANGE', key('queue', priority, client), 0, -1))
  end
  local turn, found = 1, true
  while found do
    found = false
    for _, list in ipairs(lists) do
      if list[turn] then
        found = true
        table.insert(pending, describe(list[turn]))
      end
    end
    turn = turn + 1
  end
end
local running = {}
for _, id in ipairs(redis.call('ZRANGE', key('running'), 0, -1)) do
  table.insert(running, describe(id))
end
local time = now()
return {
  string.format('%.6f', time), redis.call('ZCOUNT', key('workers'), time, '+inf'), pending, running,
  redis.call('HGETALL', key('times', ARGV[1]))
}
