-- The grouped batch, added to the sums of its minutes.
INSERT INTO rollups
SELECT
    tenant, minute, key_id, route, status_class, sandbox,
    sum(requests), sum(units), sum(cost), sum(bytes_in), sum(bytes_out), sum(total_us), sum(upstream_us),
    sum(indeterminate)
FROM temp.batch
WHERE true
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
