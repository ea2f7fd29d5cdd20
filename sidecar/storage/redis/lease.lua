-- One call of one tenant: what core.leases.Book does, in one atomic step. All times are microseconds.
--
-- KEYS[1]  the page: {now, epoch, seq, learn until, until}
-- KEYS[2..] one counter each: doubles, six of the head (kept, open until, lent until, used, and the newest cell: last,
--          units), then two for each closed cell (last, units), oldest first; a cell is forgotten as a whole, `kept`
--          after its last unit (core.windows). The last unit of a slice that lives longer lies ahead by that.
--          Most calls look at one of up to 61 closed cells, and write the head alone: Redis 7 hashes each string that
--          Lua makes to its end, and those of a kilobyte took a fifth of a call.
-- then     one budget each (core.budgets): doubles, six of the head (settled, out, learn until, check at, checker, the
--          first moment at which a node is forgotten), then six for each node (node, number, total, out, until, late)
-- ARGV[1]  doubles: units, requests, epoch, seq, new epoch, number of counters, and for each counter
--          limit, window, life, left, ahead, own, calm, number of returns, then counted from and units of each return;
--          for each budget what core.budgets.BudgetAsk has after the key; then, for a purse (core.purses), its ceiling
--          and each part: the budget's place, known, open, package, rate, number of steps, and the four of each
-- returns  doubles: now, epoch, seq, passed, and for each counter: granted, left, retry, ask, reset, longer;
--          for each budget: known, granted, left, settled, ask, check
--
-- Every key gets its expiry in the SET that writes it, which is one that lasts while its newest cell is open. Where the
-- clock went back, time stands still here until it has caught up, which expiries are longer by. Numbers are whole and
-- below 2^53.
local SHARE, LEARN, CELLS, CALM, CALM_WINDOW = 4, 1000000, 60, 2, 4
local HEAD, CELL, HEAD_BYTES, CELL_BYTES = '<dddddd', '<dd', 48, 16
local B_SHARE, B_LEARN, B_NODE, B_CHECK, B_FIRST, B_AGAIN, B_NODES = 4, 1000000, 30000000, 60000000, 1000000, 1000000, 256
local B_FRESH = 5900000
local B_HEAD, B_REC, B_HEAD_BYTES, B_REC_BYTES = '<dddddd', '<dddddd', 48, 48
local floor, max, min = math.floor, math.max, math.min
local sub, pack_, unpack_, call = string.sub, struct.pack, struct.unpack, redis.call

local last_ms, digits
local function set(key, state, ms) -- as text: a number would be written with 17 digits, each time
  if ms ~= last_ms then last_ms, digits = ms, string.format('%d', ms) end
  call('SET', key, state, 'PX', digits)
end

local time = call('TIME')
local clock = time[1] * 1000000 + time[2]
local now = clock
local packed = call('MGET', unpack(KEYS)) -- of the page and of each counter and budget after it
local page = packed[1]
local epoch, seq, learn, until_ = 0, 0, 0, now
if page then
  page = cmsgpack.unpack(page)
  now = max(now, page[1]) -- never back
  epoch, seq, learn, until_ = page[2], page[3], page[4], page[5] or now
end

local given = ARGV[1]
local units, requests, seen_epoch, seen_seq, new_epoch, windows, counters_at = unpack_('<dddddd', given)
local with_budgets = #KEYS > windows + 1

local behind = epoch ~= 0 and seen_epoch == epoch and seen_seq > seq
local fresh = epoch == 0 or behind
local learning, budgets_at = LEARN, counters_at
if fresh or with_budgets then
  for _ = 1, windows do
    local _, _, life, _, _, _, _, returns, at = unpack_('<dddddddd', given, budgets_at)
    learning, budgets_at = max(learning, life), at + CELL_BYTES * returns
  end
end
if fresh then
  epoch, learn = new_epoch, now + learning
end
local lost = behind or (seen_epoch ~= 0 and seen_epoch ~= epoch)
seq = seq + 1

-- What a counter's string says at `now`, of which `from` is where the first closed cell is that is not forgotten, and
-- `first` its last unit; `changed` that more is forgotten, or the window another, than what is stored says. What is
-- forgotten stays so, should the window grow.
local function read(state, kept)
  local was, open, lent, used, last, units = unpack_(HEAD, state)
  local from, size, first, changed = HEAD_BYTES + 1, #state, nil, was ~= kept
  if changed then open = now end
  while from < size do
    local at, n = unpack_(CELL, state, from)
    if at + kept > now then
      first = at
      break
    end
    used, from, changed = used - n, from + CELL_BYTES, true
  end
  if not first and last > 0 and last + kept <= now then
    used, last, units, changed = used - units, 0, 0, true
  end
  return open, lent, used, last, units, from, first, changed
end

-- The newest cell with `n` units more, or a new one and what the one before it becomes.
local function take(open, last, units, kept, longer, n)
  local at = max(now + longer, last)
  if last > 0 and at < open then return open, at, units + n, '' end
  return at + max(1, floor(kept / CELLS)), at, n, units > 0 and pack_(CELL, last, units) or ''
end

local function taken(state, kept, longer, n)
  local open, lent, used, last, units, from = read(state, kept)
  local closed
  open, last, units, closed = take(open, last, units, kept, longer, n)
  return pack_(HEAD, kept, open, lent, used + n, last, units) .. sub(state, from) .. closed
end

local function give_back(state, kept, granted_at, n)
  local open, lent, used, last, units, from = read(state, kept)
  if last < granted_at or granted_at + kept <= now then return state end
  local found
  for at = #state - CELL_BYTES + 1, from, -CELL_BYTES do -- the first cell whose last unit is not older
    if unpack_(CELL, state, at) < granted_at then break end
    found = at
  end
  if not found then
    local back = min(n, units)
    return pack_(HEAD, kept, open, lent, used - back, last, units - back) .. sub(state, from)
  end
  local at, there = unpack_(CELL, state, found)
  local back = min(n, there)
  return pack_(HEAD, kept, open, lent, used - back, last, units) .. sub(state, from, found - 1)
    .. pack_(CELL, at, there - back) .. sub(state, found + CELL_BYTES)
end

local function retry(state, from, last, kept, short) -- when `short` units more than there are free
  for at = from, #state - 1, CELL_BYTES do
    local moment, there = unpack_(CELL, state, at)
    short = short - there
    if short <= 0 then return moment + kept - now end
  end
  return last + kept - now
end

-- What budgets and a purse let pass, and what they grant. In a function of its own: a call without them, as most are,
-- does not pay for making all of these.
local function spending(at)
  local budgets, purse = {}, nil
  local function number()
    local n
    n, at = unpack_('<d', given, at)
    return n
  end
  for i = windows + 2, #KEYS do
    local b = {nodes = '', known = false, fresh = false}
    b.node, b.limit, b.keep, b.hold, b.least, b.number, b.held, b.left, at = unpack_('<dddddddd', given, at)
    b.ahead, b.total, b.told, b.late, b.seed, b.floor, b.lower, at = unpack_('<ddddddd', given, at)
    until_ = max(until_, now + b.keep)
    budgets[i - windows - 1] = b
  end
  if at <= #given then
    purse = {ceiling = number()}
    while at <= #given do
      local p = {budget = number() + 1, known = number(), open = number(), package = number(), rate = number(), steps = {}}
      for k = 1, number() do p.steps[k] = {number(), number(), number(), number()} end
      purse[#purse + 1] = p
    end
  end

  -- Takes out the nodes whose `until`, their fifth number, is not after `now`; without one, `one` says to take out the
  -- next. What was out with them counts as settled until the ledger has been asked.
  local function forget(b, one)
    local kept = {}
    local first
    for from = 1, #b.nodes, B_REC_BYTES do
      local _, _, _, _, last = unpack_(B_REC, b.nodes, from)
      if not first or last < first then first = last end
    end
    local limit, next_first = one and first or now, nil
    for from = 1, #b.nodes, B_REC_BYTES do
      local _, _, _, out, last = unpack_(B_REC, b.nodes, from)
      if last <= limit and one ~= 'done' then
        if one then one = 'done' end
        if out > 0 then
          b.out, b.settled, b.check = b.out - out, b.settled + out, min(b.check, now)
        end
      else
        kept[#kept + 1] = sub(b.nodes, from, from + B_REC_BYTES - 1)
        if not next_first or last < next_first then next_first = last end
      end
    end
    b.nodes, b.first = table.concat(kept), next_first or now
  end

  local function record(b)
    local key, from = pack_('<d', b.node), 1
    while true do
      local at = string.find(b.nodes, key, from, true)
      if not at then return nil end
      if (at - 1) % B_REC_BYTES == 0 then return at end
      from = at + 1
    end
  end

  local function put(b, number, total, held, late)
    local made = pack_(B_REC, b.node, number, total, held, now + B_NODE, late)
    b.nodes = sub(b.nodes, 1, b.at - 1) .. made .. sub(b.nodes, b.at + B_REC_BYTES)
  end

  local function none_behind(b) -- as core.budgets.BudgetCounter._behind
    if b.seed >= 0 then return true end
    for from = 1, #b.nodes, B_REC_BYTES do
      local _, _, _, held, heard, late = unpack_(B_REC, b.nodes, from)
      if late ~= 0 or (held > 0 and heard - B_NODE + B_FRESH <= now) then return false end
    end
    return true
  end

  -- What core.budgets.BudgetCounter.told does.
  local function told(b, state)
    local known = {0, b.told, 0}
    if state then
      b.settled, b.out, b.learn, b.check, b.checker, b.first = unpack_(B_HEAD, state)
      b.nodes = sub(state, B_HEAD_BYTES + 1)
    elseif b.seed >= 0 then
      b.settled, b.out, b.learn, b.check, b.checker = b.seed, 0, now + B_LEARN, now + B_FIRST, 0
      b.first, b.nodes = now + B_NODE, ''
      known[2] = b.total
    else
      return
    end
    b.known = true
    if b.first <= now then forget(b) end
    b.at = record(b)
    if b.at then
      local _, number, total, out = unpack_(B_REC, b.nodes, b.at)
      if b.number <= number then
        b.held = out
        return
      end
      known = {number, total, out}
    else
      if #b.nodes >= B_NODES * B_REC_BYTES then forget(b, 'one') end
      b.at = #b.nodes + 1
      if b.at == 1 then b.first = now + B_NODE end
    end
    b.fresh = true
    b.settled = b.settled + b.total - known[2]
    b.out = b.out + b.held - known[3]
    put(b, b.number, b.total, b.held, b.late)
    b.settled = max(b.settled, b.floor)
    if b.lower > 0 and b.checker == b.node and none_behind(b) then
      b.settled, b.checker = max(0, b.settled - b.lower), 0
    end
  end

  local function room(b)
    return b.limit - b.settled - b.out
  end

  -- What core.purses.PartAsk.cost, PurseAsk.cost, PurseCall._passes and _raise do.
  local function part_cost(p, total)
    if total <= 0 then return 0 end
    if p.package > 0 then return ((total - 1 - (total - 1) % p.package) / p.package + 1) * p.rate end
    local most = 0
    for _, s in ipairs(p.steps) do -- last, base, rate, below
      if total <= s[1] then return max(most, s[2] + (total - s[4]) * s[3]) end
      most = max(most, s[2] + (s[1] - s[4]) * s[3])
    end
    return most
  end

  local function cost(field)
    local sum = 0
    for _, p in ipairs(purse) do sum = sum + part_cost(p, p[field]) end
    return sum
  end

  local function passes(count)
    for _, p in ipairs(purse) do
      p.after = p.point + count * p.known
      p.with, p.before = max(p.total, p.after), p.point + (count - 1) * p.b.hold
    end
    if cost('with') > purse.ceiling and cost('after') > cost('point') then return false end
    return not purse.open or cost('before') < purse.ceiling
  end

  local function raise(p, wanted, bound)
    local low, high = p.upto, wanted
    bound = bound - (cost('upto') - part_cost(p, low))
    if part_cost(p, wanted) <= bound then low, high = wanted, wanted end
    while low < high do
      local middle = floor((low + high + 1) / 2)
      if part_cost(p, middle) <= bound then low = middle else high = middle - 1 end
    end
    p.upto = low
  end

  local function bound() -- how many of the requests
    local passed = requests
    for i, b in ipairs(budgets) do
      told(b, packed[windows + i + 1])
      if b.least > 0 then
        local free = b.fresh and room(b) + b.left or 0
        if free < b.least then
          passed = 0
        elseif b.hold > 0 then
          passed = min(passed, 1 + floor((free - b.least) / b.hold))
        end
      end
    end
    if not purse then return passed end
    purse.fresh = true
    for _, p in ipairs(purse) do
      p.b = budgets[p.budget]
      purse.fresh = purse.fresh and p.b.fresh
      purse.open = purse.open or p.open > 0
      p.total = p.b.known and p.b.settled + p.b.out or 0
      p.point = p.total - ((p.known > 0 or p.open > 0) and p.b.left or 0)
    end
    local low, high = 0, purse.fresh and requests or 0
    while low < high do
      local middle = low == 0 and high == requests and high or floor((low + high + 1) / 2)
      if passes(middle) then low = middle else high = middle - 1 end
    end
    return min(passed, low)
  end

  local function share(passed) -- sets what the purse grants to each budget
    for _, p in ipairs(purse) do
      p.upto = max(p.total, p.point + max(passed * p.known, min(passed, 1) * p.open))
    end
    for _, p in ipairs(purse) do
      local wanted = p.point + passed * p.b.hold
      if wanted > p.upto then raise(p, wanted, purse.ceiling) end
    end
    for _, p in ipairs(purse) do
      if passed == requests and p.b.ahead > 0 and now >= p.b.learn then
        local spent = cost('upto')
        raise(p, p.upto + p.b.ahead, spent + floor(max(0, purse.ceiling - spent) / B_SHARE))
      end
    end
    for _, p in ipairs(purse) do p.b.given = p.upto - p.total end
  end

  local function grant(passed, answer)
    if purse and purse.fresh then share(passed) end
    for i, b in ipairs(budgets) do
      local granted, check, again = 0, 0, B_AGAIN
      if b.known then
        if b.fresh and b.least > 0 then
          local free = room(b)
          local needed = b.hold > 0 and passed * b.hold or min(passed, 1) * b.least
          granted = max(0, min(needed, free + b.left) - b.left)
          if passed == requests and now >= b.learn then
            granted = granted + max(0, min(b.ahead, floor((free - granted) / B_SHARE)))
          end
        elseif b.fresh then
          granted = b.given or 0
        end
        b.out = b.out + granted
        if granted > 0 then put(b, b.number, b.total, b.held + granted, b.late) end
        if b.fresh and now >= b.check then
          b.check, b.checker, check = now + B_CHECK, b.node, 1
        end
        if b.out == b.held + granted then again = max(B_AGAIN, b.check - now) end
        if b.fresh then
          local state = pack_(B_HEAD, b.settled, b.out, b.learn, b.check, b.checker, b.first) .. b.nodes
          set(KEYS[windows + 1 + i], state, floor(b.keep / 1000) + 1)
        end
      end
      local known, left, settled = 0, 0, 0
      if b.known then known, left, settled = 1, room(b), b.settled end
      answer[#answer + 1] = pack_('<dddddd', known, granted, left, settled, again, check)
    end
  end
  return bound, grant
end

local passed, bound, grant = requests, nil, nil
if with_budgets then
  bound, grant = spending(budgets_at)
  passed = bound()
end

-- One walk over the counters where all let as many pass as was hoped; where one does not, a second one with what they
-- do: what a first walk would have to keep for a second one costs more than it.
local answer, states, expiries, longest, hoped = {}, nil, nil, nil, nil
repeat
  hoped, states, expiries, longest = passed, {}, {}, 0
  local at, may_ahead = counters_at, passed == requests and now >= learn
  for i = 1, windows do
    local limit, window, life, left, ahead, own, calm, returns, after = unpack_('<dddddddd', given, at)
    local kept, stored = window + life, packed[i + 1]
    local longer = life > 0 and max(0, min(floor(window / CALM_WINDOW), LEARN) - life) or 0
    if kept > longest then longest = kept end
    at = after + CELL_BYTES * returns
    local state = stored or pack_(HEAD, kept, now, 0, 0, 0, 0)
    if lost then
      if own > 0 then state = taken(state, kept, longer, own) end
    else
      for k = after, at - 1, CELL_BYTES do state = give_back(state, kept, unpack_(CELL, given, k)) end
    end
    local open, lent, used, last, there, from, first, changed = read(state, kept)
    local free = limit - used + left
    if units > 0 and free < passed * units then passed = max(0, floor(free / units)) end
    if passed == hoped then
      local rest, granted, long = left - passed * units, 0, 0
      if rest < 0 then rest, granted = 0, -rest end
      if may_ahead and life > 0 then
        local share = floor((limit - used - granted) / SHARE)
        if share > 0 then
          local extra = min(max(0, ahead - rest), share)
          if calm > 0 then
            local more = min(max(0, ahead * (1 + floor(longer / life)) - rest), share)
            if more > 0 and used + granted + more <= floor(limit / CALM) then extra, long = more, longer end
          end
          if extra > 0 then
            lent = max(lent, now + 2 * (life + long))
            granted, rest = granted + extra, rest + extra
          end
        end
      end
      local whole, closed = changed or state ~= stored, '' -- must the cells be written, too?
      if granted > 0 then
        local opened, before = open, last
        open, last, there, closed = take(open, last, there, kept, long, granted)
        used, whole = used + granted, whole or open ~= opened
        if closed ~= '' then first = first or before end
      end
      if granted > 0 or whole and (stored or used > 0) then
        states[i], expiries[i] = pack_(HEAD, kept, open, lent, used, last, there), false
        if whole then
          state, from = states[i] .. sub(state, from) .. closed, HEAD_BYTES + 1
          states[i], expiries[i] = state, floor((kept + longer + kept / CELLS + now - clock) / 1000) + 1000
        end
      end
      local wait, free_now, short = 0, limit - used, rest < units and units - rest or 0
      if units > limit then
        wait = -1
      elseif free_now < short then
        wait = retry(state, from, last, kept, short - free_now)
      end
      local ask, soon = wait, lent - now
      if wait > soon and soon > 0 then ask = soon end
      local reset = used > 0 and (first or last) + kept - now or 0
      answer[i] = pack_('<dddddd', granted, free_now, wait, ask, reset, long)
    end
  end
until passed == hoped
for i = 1, windows do
  if expiries[i] then
    set(KEYS[i + 1], states[i], expiries[i])
  elseif states[i] then
    call('SETRANGE', KEYS[i + 1], '0', states[i])
  end
end
if grant then grant(passed, answer) end
local remembered = 2 * (longest + floor(longest / 50) + LEARN)
until_ = max(until_, now + remembered)
set(KEYS[1], cmsgpack.pack({now, epoch, seq, learn, until_}), floor((until_ - now) / 1000) + 1)
return pack_('<dddd', now, epoch, seq, passed) .. table.concat(answer)
