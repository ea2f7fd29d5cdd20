-- Whether what was copied as it stood in the journal is what a JSON parser would have read: every text stands in one pair
-- of quotes and holds none (the batch holds no backslash), so no comma inside a text has moved the columns after it.
SELECT bool_and(
    kind = '["d"'
    AND event_id LIKE '"____________________________________"'
    AND tenant LIKE '"%"' AND tenant NOT LIKE '_%"%_'
    AND key_id LIKE '"%"' AND key_id NOT LIKE '_%"%_'
    AND plan LIKE '"%"' AND plan NOT LIKE '_%"%_'
    AND route LIKE '"%"' AND route NOT LIKE '_%"%_'
    AND method LIKE '"%"' AND method NOT LIKE '_%"%_'
    AND outcome LIKE '"%"' AND outcome NOT LIKE '_%"%_'
)
FROM pg_temp.staging
