-- The queue as it stands: jobs in the order in which they are taken, those that run, the workers, and measured times. A job whose
-- record is damaged is passed over: `claim` or `upkeep` puts it aside.
local function describe(id, rows)
  local values = redis.pcall('HMGET', key('job', id), 'steps', 'count', 'step', 'workload', 'step_time')
  if values['err'] or not (is_workload(values[4]) and tonumber(values[1] or '') and tonumber(values[2] or '')
      and tonumber(values[3] or '')) then
    return
  end
  table.insert(rows, {id, values[4], values[1], values[2], values[3], values[5]})
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
        describe(list[turn], pending)
      end
    end
    turn = turn + 1
  end
end
local running = {}
for _, id in ipairs(redis.call('ZRANGE', key('running'), 0, -1)) do
  describe(id, running)
end
local time = now()
return {
  string.format('%.6f', time), redis.call('ZCOUNT', key('workers'), time, '+inf'), pending, running,
  redis.call('HGETALL', key('times', ARGV[1]))
}
