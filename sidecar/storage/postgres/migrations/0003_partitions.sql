-- Partitions of entries, made and dropped by the ingest role through functions of the owner: the application never has
-- the owner's rights itself. The search path is pinned, so that nobody's own tables or operators get in between.
-- A day is counted from 1970-01-01 (UTC); its partition is entries_YYYYMMDD.

CREATE FUNCTION sidecar.partition_name(day bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN 'entries_' || to_char('1970-01-01'::date + day::integer, 'YYYYMMDD');

-- Makes the partitions of those days that lie from a year ago to the day after tomorrow: at most 369 at a time. A day
-- whose partition cannot be made now goes to the default partition; the days ahead are asked for with every batch.
-- ATTACH, unlike CREATE ... PARTITION OF, lets others read and write entries meanwhile, all but the default partition.
-- Call it first in a transaction: whoever waits for the lock here must not hold one on the default partition.
CREATE FUNCTION sidecar.make_partitions(days bigint[]) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
AS $$
DECLARE
    today bigint := extract(epoch FROM now())::bigint / 86400;
    day   bigint;
    name  text;
    made  integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('sidecar.make_partitions', 0));
    FOR day IN SELECT DISTINCT d FROM unnest(days) AS d WHERE d BETWEEN today - 366 AND today + 2 ORDER BY d LOOP
        name := sidecar.partition_name(day);
        CONTINUE WHEN to_regclass('sidecar.' || name) IS NOT NULL;
        BEGIN
            EXECUTE format(
                'CREATE TABLE sidecar.%I (LIKE sidecar.entries INCLUDING CONSTRAINTS INCLUDING INDEXES)', name
            );
            EXECUTE format('ALTER TABLE sidecar.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
            EXECUTE format(
                'ALTER TABLE sidecar.entries ATTACH PARTITION sidecar.%I FOR VALUES FROM (%s) TO (%s)',
                name, day * 86400000000, (day + 1) * 86400000000
            );
            made := made + 1;
        EXCEPTION
            WHEN check_violation THEN NULL;    -- the default partition got a row of this day: it has all of them then
            WHEN lock_not_available THEN NULL; -- a long report is reading the default partition
        END;
    END LOOP;
    RETURN made;
END
$$;

-- Drops a whole day. Waits for reports that are reading, but not for long: everybody else would queue behind it.
CREATE FUNCTION sidecar.drop_partition(day bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
AS $$
BEGIN
    EXECUTE format('DROP TABLE sidecar.%I', sidecar.partition_name(day));
END
$$;

REVOKE EXECUTE ON FUNCTION sidecar.make_partitions(bigint[]), sidecar.drop_partition(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sidecar.make_partitions(bigint[]), sidecar.drop_partition(bigint) TO sidecar_ingest;
