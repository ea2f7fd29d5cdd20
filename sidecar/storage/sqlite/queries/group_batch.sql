-- The entries after :before, grouped once for all projections. Calls of one key on one route within a minute differ
-- little, and meters that count calls or weights are the same text, so thousands of entries become some rows here.
-- They stand in the order of their key, so that what groups them further sorts nothing.
-- Their minute is the one in which they ended: a stream of hours is used, and billed, when it is known.
-- The bucket of total_us is core.latency.bucket_index; SQLite has no bit_length, so its lines are written out.
INSERT INTO temp.batch
SELECT
    tenant, (started_us + total_us) / 60000000, plan, key_id, route, status / 100, sandbox,
    meters,
    CASE
        WHEN total_us < 8 THEN total_us
        WHEN total_us < 16 THEN 4 + (total_us >> 1)
        WHEN total_us < 32 THEN 8 + (total_us >> 2)
        WHEN total_us < 64 THEN 12 + (total_us >> 3)
        WHEN total_us < 128 THEN 16 + (total_us >> 4)
        WHEN total_us < 256 THEN 20 + (total_us >> 5)
        WHEN total_us < 512 THEN 24 + (total_us >> 6)
        WHEN total_us < 1024 THEN 28 + (total_us >> 7)
        WHEN total_us < 2048 THEN 32 + (total_us >> 8)
        WHEN total_us < 4096 THEN 36 + (total_us >> 9)
        WHEN total_us < 8192 THEN 40 + (total_us >> 10)
        WHEN total_us < 16384 THEN 44 + (total_us >> 11)
        WHEN total_us < 32768 THEN 48 + (total_us >> 12)
        WHEN total_us < 65536 THEN 52 + (total_us >> 13)
        WHEN total_us < 131072 THEN 56 + (total_us >> 14)
        WHEN total_us < 262144 THEN 60 + (total_us >> 15)
        WHEN total_us < 524288 THEN 64 + (total_us >> 16)
        WHEN total_us < 1048576 THEN 68 + (total_us >> 17)
        WHEN total_us < 2097152 THEN 72 + (total_us >> 18)
        WHEN total_us < 4194304 THEN 76 + (total_us >> 19)
        WHEN total_us < 8388608 THEN 80 + (total_us >> 20)
        WHEN total_us < 16777216 THEN 84 + (total_us >> 21)
        WHEN total_us < 33554432 THEN 88 + (total_us >> 22)
        WHEN total_us < 67108864 THEN 92 + (total_us >> 23)
        WHEN total_us < 134217728 THEN 96 + (total_us >> 24)
        WHEN total_us < 268435456 THEN 100 + (total_us >> 25)
        WHEN total_us < 536870912 THEN 104 + (total_us >> 26)
        WHEN total_us < 1073741824 THEN 108 + (total_us >> 27)
        WHEN total_us < 2147483648 THEN 112 + (total_us >> 28)
        WHEN total_us < 4294967296 THEN 116 + (total_us >> 29)
        ELSE 123
    END,
    count(*), sum(units), sum(cost), sum(bytes_in), sum(bytes_out), sum(total_us), sum(upstream_us),
    sum(outcome = 'indeterminate'), max(started_us)
FROM entries
WHERE seq > :before
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
