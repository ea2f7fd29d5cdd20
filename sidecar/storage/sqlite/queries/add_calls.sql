-- The grouped batch, added to the sums of its minutes, hours or days; {period} and {time} are filled in by entries.py.
INSERT INTO calls_by_{period}
SELECT
    tenant, {time}, plan, key_id, route, status_class, sandbox,
    sum(requests), sum(units), sum(cost), sum(bytes_in), sum(bytes_out), sum(total_us), sum(upstream_us),
    sum(indeterminate)
FROM temp.batch
WHERE true
GROUP BY tenant, minute, plan, key_id, route, status_class, sandbox
ON CONFLICT DO UPDATE SET
    requests = requests + excluded.requests,
    units = units + excluded.units,
    cost = cost + excluded.cost,
    bytes_in = bytes_in + excluded.bytes_in,
    bytes_out = bytes_out + excluded.bytes_out,
    total_us = total_us + excluded.total_us,
    upstream_us = upstream_us + excluded.upstream_us,
    indeterminate = indeterminate + excluded.indeterminate
