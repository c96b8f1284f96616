-- Stops a job that has not ended. The worker of a running one learns it with its next heartbeat.
local id = ARGV[1]
local state = field(id, 'state')
if state == 'PENDING' or state == 'RUNNING' then
  settle(id, 'CANCELLED', now())
end
return 1
