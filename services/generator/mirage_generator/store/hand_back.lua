-- A worker that is told to stop gives its job back, which does not count as an attempt. 0 where it is not its any more.
local id, fence = ARGV[1], ARGV[2]
if not owned(id, fence) then
  return 0
end
redis.call('HINCRBY', key('job', id), 'attempts', -1)
put_back(id)
return 1
