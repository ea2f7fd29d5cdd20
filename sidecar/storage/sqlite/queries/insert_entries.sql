-- A batch of done records (sidecar.core.records), :batch = their JSON array as UTF-8 bytes, into entries.
-- Known event ids are skipped. A record of the wrong shape becomes a NULL, which the table refuses, and so the whole
-- statement fails: nothing malformed is half stored. jsonb_each keeps each element parsed; json_each would write it
-- out as text and parse it again for every column.
INSERT INTO entries (
    event_id, started_us, tenant, key_id, plan, sandbox, route, method, status, outcome,
    units, cost, bytes_in, bytes_out, total_us, upstream_us, first_byte_us, meters
)
SELECT
    CASE WHEN json_array_length(value) = 19 AND value ->> 0 = 'd' THEN unhex(value ->> 1, '-') END,
    value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10,
    value ->> 11, value ->> 12, value ->> 13, value ->> 14, value ->> 15, value ->> 16, value ->> 17,
    CASE WHEN json_type(value, '$[18]') = 'object' THEN value -> 18 END
FROM jsonb_each(CAST(:batch AS TEXT))
WHERE true
ON CONFLICT (event_id) DO NOTHING
