-- One call of one tenant: what core.leases.Book does, in one atomic step. All times are microseconds.
--
-- KEYS[1]  the page: {now, epoch, seq, learn until}
-- KEYS[2..] one counter each: doubles, four of the head (kept, open until, lent until, used), then two for each cell
--          (last, units), oldest first; a cell is forgotten as a whole, `kept` after its last unit (core.windows).
--          A string that is read at its ends: of 62 cells most calls look at two.
-- ARGV     units, requests, epoch, seq, new epoch, and for each counter
--          limit, window, life, left, ahead, own, number of returns, then granted at and units of each return
-- returns  now, epoch, seq, passed, and for each counter: granted, left, retry, ask, reset
--
-- Every key gets its expiry in the SET that writes it. Numbers are whole and below 2^53.
local SHARE, LEARN, CELLS = 4, 1000000, 60
local HEAD, CELL, HEAD_BYTES, CELL_BYTES = '<dddd', '<dd', 32, 16
local floor, max, min = math.floor, math.max, math.min

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local page = redis.call('GET', KEYS[1])
local epoch, seq, learn = 0, 0, 0
if page then
  page = cmsgpack.unpack(page)
  now = max(now, page[1]) -- never back
  epoch, seq, learn = page[2], page[3], page[4]
end

local at = 0
local function number()
  at = at + 1
  return tonumber(ARGV[at])
end
local units, requests, seen_epoch, seen_seq, new_epoch = number(), number(), number(), number(), number()

local counters, longest, learning = {}, 0, LEARN
for i = 2, #KEYS do
  local c = {limit = number(), window = number(), life = number(), left = number(), ahead = number(), own = number()}
  c.returns = number()
  c.first = at
  at = at + 2 * c.returns
  c.kept = c.window + c.life
  longest = max(longest, c.kept)
  learning = max(learning, c.life)
  counters[i - 1] = c
end

local behind = epoch ~= 0 and seen_epoch == epoch and seen_seq > seq
if epoch == 0 or behind then
  epoch, learn = new_epoch, now + learning
end
local lost = behind or (seen_epoch ~= 0 and seen_epoch ~= epoch)
seq = seq + 1

local function read(c, state)
  c.cells, c.used, c.open, c.lent = '', 0, now, 0
  if not state then return end
  local kept
  kept, c.open, c.lent, c.used = struct.unpack(HEAD, state)
  if kept ~= c.kept then c.open, c.changed = now, true end
  local from = HEAD_BYTES + 1
  while from < #state do
    local last, n = struct.unpack(CELL, state, from)
    if last + c.kept > now then break end
    c.used, c.changed = c.used - n, true -- what is forgotten stays so, should the window grow
    from = from + CELL_BYTES
  end
  c.cells = string.sub(state, from)
end

local function take(c, n)
  local size = #c.cells
  local last, newest = 0, 0
  if size > 0 then last, newest = struct.unpack(CELL, c.cells, size - CELL_BYTES + 1) end
  if size > 0 and now < c.open then
    c.cells = string.sub(c.cells, 1, size - CELL_BYTES) .. struct.pack(CELL, now, newest + n)
  else
    if size > 0 and newest == 0 then c.cells = string.sub(c.cells, 1, size - CELL_BYTES) end
    c.cells = c.cells .. struct.pack(CELL, now, n)
    c.open = now + max(1, floor(c.kept / CELLS))
  end
  c.used = c.used + n
  c.changed = true
end

local function give_back(c, granted_at, n)
  if granted_at + c.kept <= now then return end
  local found, units_there
  for from = #c.cells - CELL_BYTES + 1, 1, -CELL_BYTES do -- the first cell whose last unit is not older
    local last, there = struct.unpack(CELL, c.cells, from)
    if last < granted_at then break end
    found, units_there = from, there
  end
  if not found then return end
  local back = min(n, units_there)
  local last = struct.unpack(CELL, c.cells, found)
  c.cells = string.sub(c.cells, 1, found - 1) .. struct.pack(CELL, last, units_there - back)
    .. string.sub(c.cells, found + CELL_BYTES)
  c.used = c.used - back
  c.changed = true
end

local function retry(c, n)
  if units > c.limit then return -1 end
  local short = c.used + n - c.limit
  if short <= 0 then return 0 end
  local last, there
  for from = 1, #c.cells, CELL_BYTES do
    last, there = struct.unpack(CELL, c.cells, from)
    short = short - there
    if short <= 0 then break end
  end
  return last + c.kept - now
end

local packed = #KEYS > 1 and redis.call('MGET', unpack(KEYS, 2)) or {}
local passed = requests
for i, c in ipairs(counters) do
  read(c, packed[i])
  if lost then
    if c.own > 0 then take(c, c.own) end
  else
    for k = c.first + 1, c.first + 2 * c.returns, 2 do
      give_back(c, tonumber(ARGV[k]), tonumber(ARGV[k + 1]))
    end
  end
  if units > 0 then
    passed = min(passed, max(0, floor((c.limit - c.used + c.left) / units)))
  end
end

local may_ahead = passed == requests and now >= learn
local answer = {now, epoch, seq, passed}
for i, c in ipairs(counters) do
  local granted = max(0, passed * units - c.left)
  if may_ahead and c.life > 0 then
    local extra = max(0, min(c.ahead, floor((c.limit - c.used - granted) / SHARE)))
    if extra > 0 then c.lent = now + 2 * c.life end
    granted = granted + extra
  end
  if granted > 0 then take(c, granted) end
  local wait = retry(c, max(0, units - max(0, c.left + granted - passed * units)))
  local ask, soon = wait, c.lent - now
  if wait > soon and soon > 0 then ask = soon end
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4] = granted, c.limit - c.used, wait, ask
  answer[n + 5] = c.used > 0 and struct.unpack(CELL, c.cells) + c.kept - now or 0
  if c.changed then
    local state = struct.pack(HEAD, c.kept, c.open, c.lent, c.used) .. c.cells
    redis.call('SET', KEYS[i + 1], state, 'PX', floor(c.kept / 1000) + 1000)
  end
end
local remembered = 2 * (longest + floor(longest / 50) + LEARN)
redis.call('SET', KEYS[1], cmsgpack.pack({now, epoch, seq, learn}), 'PX', floor(remembered / 1000) + 1)
return answer
