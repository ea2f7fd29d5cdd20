-- The batch's meters, added to the sums of its minutes or hours.
INSERT INTO sidecar.meters_by_{period} AS old
SELECT tenant, {time}, plan, key_id, route, status_class, sandbox, meter, sum(value)
FROM pg_temp.summed_meters
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
ON CONFLICT (tenant, {period}, plan, key_id, route, status_class, sandbox, meter) DO UPDATE SET
    value = old.value + excluded.value
