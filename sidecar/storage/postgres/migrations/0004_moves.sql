-- An installation that is being moved here, or was: a row per table, with the key of the last row copied, written in the
-- transaction that copied it, so that no row is copied twice or left out. Until all are done no sidecar writes here.
CREATE TABLE sidecar.moves (
    move     uuid NOT NULL,
    name     text COLLATE "C" NOT NULL,
    last_key text COLLATE "C",           -- JSON array, as the source has it; NULL: nothing was copied yet
    rows     bigint NOT NULL,
    done     boolean NOT NULL,
    PRIMARY KEY (move, name)
);
ALTER TABLE sidecar.moves ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE ON sidecar.moves TO sidecar_ingest;
GRANT SELECT ON sidecar.moves TO sidecar_operator;
CREATE POLICY ingest ON sidecar.moves TO sidecar_ingest USING (true) WITH CHECK (true);
CREATE POLICY operator ON sidecar.moves FOR SELECT TO sidecar_operator USING (true);
