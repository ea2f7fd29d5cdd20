-- Those of the staged records into entries that are not there yet, each once; only these stay in staging. What entries.py
-- fills in is insert_entries.sql, which skips known ones here.
WITH new AS (
    {insert}
    RETURNING
        event_id, started_us, tenant, key_id, plan, sandbox, route, method, status, outcome, units, cost,
        bytes_in, bytes_out, total_us, upstream_us, first_byte_us, meters
),
emptied AS (
    DELETE FROM pg_temp.staging
)
INSERT INTO pg_temp.staging SELECT * FROM new
