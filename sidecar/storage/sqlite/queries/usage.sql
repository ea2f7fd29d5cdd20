-- One tenant's sums over the minutes [:since, :until), split as far as the report needs it.
SELECT
    route, status_class, sandbox,
    sum(requests), sum(units), sum(cost), sum(bytes_in), sum(bytes_out), sum(total_us), sum(upstream_us),
    sum(indeterminate)
FROM rollups
WHERE tenant = :tenant AND minute >= :since AND minute < :until
GROUP BY route, status_class, sandbox
