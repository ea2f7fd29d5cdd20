-- Usage of a minute that is asked of nobody: it ended while no subscription ran. The table and columns are those of the
-- SQLite store.

CREATE TABLE sidecar.excused_minutes (
    tenant text COLLATE "C" NOT NULL,
    meter  text COLLATE "C" NOT NULL,
    minute bigint NOT NULL,
    value  bigint NOT NULL CHECK (value > 0),
    PRIMARY KEY (tenant, meter, minute)
);
CREATE INDEX excused_minutes_time ON sidecar.excused_minutes (minute); -- for retention

ALTER TABLE sidecar.excused_minutes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON sidecar.excused_minutes TO sidecar_ingest;
GRANT SELECT ON sidecar.excused_minutes TO sidecar_reader, sidecar_operator;
CREATE POLICY ingest ON sidecar.excused_minutes TO sidecar_ingest USING (true) WITH CHECK (true);
CREATE POLICY operator ON sidecar.excused_minutes FOR SELECT TO sidecar_operator USING (true);
CREATE POLICY reader ON sidecar.excused_minutes FOR SELECT TO sidecar_reader
    USING (tenant = NULLIF(current_setting('sidecar.tenant', true), ''));
