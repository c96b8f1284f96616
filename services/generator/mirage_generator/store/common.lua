-- What all scripts share. Every change of a job is one script, so that a job has one state whoever asks.
local PREFIX = 'mirage:'

local function key(...)
  return PREFIX .. table.concat({...}, ':')
end

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end

local function field(id, name)
  return redis.call('HGET', key('job', id), name)
end

-- Tells watchers: `kind` is "queue" where the order of others changed too, "step" or "preview".
local function changed(id, kind)
  redis.call('HINCRBY', key('job', id), 'revision', 1)
  redis.call('PUBLISH', key('changes'), kind .. ' ' .. id)
end

-- A client's jobs wait in a list of its own; clients take turns in a rotation for each priority.
local function enqueue(id, client, priority, front)
  local list, rotation = key('queue', priority, client), key('rotation', priority)
  if redis.call('EXISTS', list) == 0 then
    redis.call(front and 'LPUSH' or 'RPUSH', rotation, client)
  elseif front then
    redis.call('LREM', rotation, 0, client)
    redis.call('LPUSH', rotation, client)
  end
  redis.call(front and 'LPUSH' or 'RPUSH', list, id)
  redis.call('ZADD', key('pending'), field(id, 'sequence'), id)
end

local function dequeue(id, client, priority)
  local list = key('queue', priority, client)
  redis.call('LREM', list, 0, id)
  if redis.call('EXISTS', list) == 0 then
    redis.call('LREM', key('rotation', priority), 0, client)
  end
  redis.call('ZREM', key('pending'), id)
end

local function is_workload(text)
  return text and string.match(text, '^%d+x%d+/%d+$') ~= nil
end

-- True for a job's record that has all that the scripts and their readers rely on.
local function whole(id)
  if redis.call('TYPE', key('job', id))['ok'] ~= 'hash' then
    return false
  end
  local values = redis.call('HMGET', key('job', id), 'client', 'priority', 'spec', 'state', 'workload',
    'sequence', 'deadline_time', 'ttl', 'attempts', 'fence', 'steps', 'count', 'step', 'revision')
  for at, value in ipairs(values) do
    if not value or (at > 5 and not tonumber(value)) then
      return false
    end
  end
  return is_workload(values[5])
end

-- Takes a record that is damaged out of all lists and keeps it under another name for a month.
local function put_aside(id)
  for _, list in ipairs({'jobs', 'pending', 'running', 'deadlines', 'expiry'}) do
    redis.call('ZREM', key(list), id)
  end
  redis.call('DEL', key('preview', id))
  if redis.call('EXISTS', key('job', id)) == 1 then
    if redis.call('TYPE', key('job', id))['ok'] == 'hash' then
      local client = field(id, 'client')
      if client then
        redis.call('SREM', key('live', client), id)
        redis.call('ZREM', key('jobs', client), id)
      end
    end
    redis.call('RENAME', key('job', id), key('damaged', id))
    redis.call('EXPIRE', key('damaged', id), 2592000)
  end
  redis.call('PUBLISH', key('changes'), 'removed ' .. id)
end

local function take_first()
  for _, priority in ipairs({'interactive', 'batch'}) do
    local rotation = key('rotation', priority)
    local client = redis.call('LPOP', rotation)
    if client then
      local list = key('queue', priority, client)
      local id = redis.call('LPOP', list)
      if redis.call('EXISTS', list) == 1 then
        redis.call('RPUSH', rotation, client)
      end
      redis.call('ZREM', key('pending'), id)
      return id
    end
  end
  return nil
end

local function release(id)
  local ticket = field(id, 'ticket')
  if ticket and ticket ~= '' then
    redis.call('HDEL', key('tickets'), ticket)
  end
  redis.call('ZREM', key('running'), id)
  redis.call('DEL', key('preview', id))
end

-- Ends a job that has not ended, wherever it is.
local function settle(id, state, time)
  local record = key('job', id)
  local values = redis.call('HMGET', record, 'state', 'client', 'priority', 'ttl')
  if values[1] == 'PENDING' then
    dequeue(id, values[2], values[3])
  end
  release(id)
  local expires = time + tonumber(values[4])
  redis.call('HSET', record, 'state', state, 'end_time', time, 'expire_time', expires)
  redis.call('SREM', key('live', values[2]), id)
  redis.call('ZREM', key('deadlines'), id)
  redis.call('ZADD', key('expiry'), expires, id)
  redis.call('HINCRBY', key('outcomes'), state, 1)
  changed(id, 'queue')
end

local function fail(id, time, problem)
  redis.call('HSET', key('job', id), 'problem', problem)
  settle(id, 'FAILED', time)
end

-- Back to the head of the queue.
local function put_back(id)
  release(id)
  redis.call('HSET', key('job', id), 'state', 'PENDING', 'step', 0, 'start_time', 0, 'ticket', '')
  enqueue(id, field(id, 'client'), field(id, 'priority'), true)
  changed(id, 'queue')
end

local function owned(id, fence)
  local values = redis.call('HMGET', key('job', id), 'state', 'fence')
  return values[1] == 'RUNNING' and values[2] == fence
end

local function past_deadline(id, time)
  return tonumber(field(id, 'deadline_time')) <= time
end
