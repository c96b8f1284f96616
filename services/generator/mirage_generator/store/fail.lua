-- A job's worker cannot make it. 0 where the job is not its any more.
if not owned(ARGV[1], ARGV[2]) then
  return 0
end
fail(ARGV[1], now(), ARGV[3])
return 1
