-- The staged records into entries. A known one is an error, or is skipped by what entries.py fills in at the end.
INSERT INTO sidecar.entries (
    event_id, started_us, tenant, key_id, plan, sandbox, route, method, status, outcome, units, cost,
    bytes_in, bytes_out, total_us, upstream_us, first_byte_us, meters
)
SELECT
    event_id, started_us, tenant, key_id, plan, sandbox, route, method, status, outcome, units, cost,
    bytes_in, bytes_out, total_us, upstream_us, first_byte_us, meters
FROM pg_temp.staging
{known}
