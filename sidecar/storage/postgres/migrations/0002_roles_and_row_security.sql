-- Who may see and do what. Row-level security is forced, so that it binds the owner too; only a superuser is never bound,
-- which is why the application refuses to log in as one.

GRANT USAGE ON SCHEMA sidecar TO sidecar_ingest, sidecar_reader, sidecar_operator;
GRANT SELECT ON sidecar.migrations, sidecar.keys_version TO sidecar_ingest, sidecar_reader, sidecar_operator;
GRANT UPDATE ON sidecar.keys_version TO sidecar_ingest;

-- Tables of tenants' rows. After one SET LOCAL the setting reads '' for the rest of the session, hence the NULLIF: a
-- reader without a tenant compares with NULL and sees nothing.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'tenants', 'api_keys', 'entries', 'entries_default', 'calls_by_minute', 'calls_by_hour', 'meters_by_minute',
        'meters_by_hour', 'latency_by_minute', 'latency_by_hour'
    ] LOOP
        EXECUTE format('ALTER TABLE sidecar.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON sidecar.%I TO sidecar_ingest', name);
        EXECUTE format('CREATE POLICY ingest ON sidecar.%I TO sidecar_ingest USING (true) WITH CHECK (true)', name);
        CONTINUE WHEN name = 'entries_default'; -- others reach its rows through entries
        EXECUTE format('GRANT SELECT ON sidecar.%I TO sidecar_reader, sidecar_operator', name);
        EXECUTE format('CREATE POLICY operator ON sidecar.%I FOR SELECT TO sidecar_operator USING (true)', name);
        EXECUTE format(
            'CREATE POLICY reader ON sidecar.%I FOR SELECT TO sidecar_reader'
            ' USING (tenant = NULLIF(current_setting(''sidecar.tenant'', true), ''''))', name
        );
    END LOOP;
END
$$;

-- Tables of the operator's own. Nobody who is bound to a tenant sees them at all.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['audit_log', 'journal_positions', 'rejected_records'] LOOP
        EXECUTE format('ALTER TABLE sidecar.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON sidecar.%I TO sidecar_ingest', name);
        EXECUTE format('GRANT SELECT ON sidecar.%I TO sidecar_operator', name);
        EXECUTE format('CREATE POLICY ingest ON sidecar.%I TO sidecar_ingest USING (true) WITH CHECK (true)', name);
        EXECUTE format('CREATE POLICY operator ON sidecar.%I FOR SELECT TO sidecar_operator USING (true)', name);
    END LOOP;
END
$$;
