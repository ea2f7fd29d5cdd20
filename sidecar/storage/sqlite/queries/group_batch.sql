-- The entries after :before, grouped once for all projections. Calls of one key on one route within a minute differ
-- little, and meters that count calls or weights are the same text, so thousands of entries become a few rows here.
INSERT INTO temp.batch
SELECT
    tenant, started_us / 60000000, key_id, route, status / 100, sandbox, meters,
    count(*), sum(units), sum(cost), sum(bytes_in), sum(bytes_out), sum(total_us), sum(upstream_us),
    sum(outcome = 'indeterminate'), max(started_us)
FROM entries
WHERE seq > :before
GROUP BY 1, 2, 3, 4, 5, 6, 7
