-- Adds measured seconds to running averages: the mean of the first ten, then of about that many.
local times = key('times', ARGV[1])
for at = 2, #ARGV, 2 do
  local name, seconds = ARGV[at], tonumber(ARGV[at + 1])
  local count = redis.call('HINCRBY', times, name .. ':count', 1)
  local average = tonumber(redis.call('HGET', times, name)) or seconds
  redis.call('HSET', times, name, average + math.max(0.1, 1 / count) * (seconds - average))
end
return 1
