-- A job's images are there. 0 where the job is not this worker's any more.
local id, fence, images = ARGV[1], ARGV[2], ARGV[3]
local record = key('job', id)
if not owned(id, fence) then
  -- Said before, and the connection sent it again?
  return (field(id, 'state') == 'SUCCEEDED' and field(id, 'fence') == fence) and 1 or 0
end
redis.call('HSET', record, 'images', images, 'step', field(id, 'steps'))
for at = 4, #ARGV do
  redis.call('SADD', key('artifacts'), ARGV[at])
  redis.call('RPUSH', key('files', id), ARGV[at])
end
settle(id, 'SUCCEEDED', now())
return 1
