-- The grouped batch, added to the sums of its minutes or hours; {period} and {time} are filled in by entries.py. In the
-- order of the key, so that two nodes never wait for each other.
INSERT INTO sidecar.calls_by_{period} AS old
SELECT
    tenant, {time}, plan, key_id, route, status_class, sandbox,
    sum(requests), sum(units), sum(cost), sum(bytes_in), sum(bytes_out), sum(total_us), sum(upstream_us),
    sum(indeterminate)
FROM pg_temp.grouped
GROUP BY 1, 2, 3, 4, 5, 6, 7
ORDER BY 1, 2, 3, 4, 5, 6, 7
ON CONFLICT (tenant, {period}, plan, key_id, route, status_class, sandbox) DO UPDATE SET
    requests = old.requests + excluded.requests,
    units = old.units + excluded.units,
    cost = old.cost + excluded.cost,
    bytes_in = old.bytes_in + excluded.bytes_in,
    bytes_out = old.bytes_out + excluded.bytes_out,
    total_us = old.total_us + excluded.total_us,
    upstream_us = old.upstream_us + excluded.upstream_us,
    indeterminate = old.indeterminate + excluded.indeterminate
