-- At most :at_most single events that began before :before_us, from the oldest arrivals on. Only the first :at_most are
-- looked at, so the cost is bounded; an old event that arrived behind younger ones goes when those do.
DELETE FROM entries
WHERE seq IN (SELECT seq FROM entries ORDER BY seq LIMIT :at_most) AND started_us < :before_us
