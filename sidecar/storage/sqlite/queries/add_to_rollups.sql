-- The entries after :before, added to the sums of their minutes.
INSERT INTO rollups
SELECT
    tenant, started_us / 60000000, key_id, route, status / 100, sandbox,
    count(*), sum(units), sum(cost), sum(bytes_in), sum(bytes_out), sum(total_us), sum(upstream_us),
    sum(outcome = 'indeterminate')
FROM entries
WHERE seq > :before
GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT DO UPDATE SET
    requests = requests + excluded.requests,
    units = units + excluded.units,
    cost = cost + excluded.cost,
    bytes_in = bytes_in + excluded.bytes_in,
    bytes_out = bytes_out + excluded.bytes_out,
    total_us = total_us + excluded.total_us,
    upstream_us = upstream_us + excluded.upstream_us,
    indeterminate = indeterminate + excluded.indeterminate
