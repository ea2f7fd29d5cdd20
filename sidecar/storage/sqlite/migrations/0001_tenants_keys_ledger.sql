-- Who may call, and what they used. Times end in their unit: _ns and _us since the Unix epoch, minute = Unix minutes.
-- STRICT throughout: a value of the wrong type is refused, not converted into something else.

CREATE TABLE tenants (
    name            TEXT NOT NULL PRIMARY KEY,
    plan            TEXT NOT NULL,
    state           TEXT NOT NULL,
    stripe_customer TEXT,
    created_ns      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- No foreign key to tenants: a tenant may be declared in policies/ alone.
CREATE TABLE api_keys (
    id           TEXT NOT NULL PRIMARY KEY,
    tenant       TEXT NOT NULL,
    name         TEXT NOT NULL,
    sandbox      INTEGER NOT NULL CHECK (sandbox IN (0, 1)),
    digest       BLOB NOT NULL,
    pepper       TEXT NOT NULL,
    scopes       TEXT,              -- JSON array; NULL: not narrowed
    created_ns   INTEGER NOT NULL,
    expires_ns   INTEGER,
    revoked_ns   INTEGER,
    last_used_ns INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX api_keys_by_tenant ON api_keys (tenant, id);

-- One row: grows with every change of a tenant or a key (not with their use), so that caches can poll it.
CREATE TABLE keys_version (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    value INTEGER NOT NULL
) STRICT;
INSERT INTO keys_version VALUES (1, 0);

-- Who changed what, in the same transaction as the change. The newest million rows are kept.
CREATE TABLE audit_log (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ns   INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL           -- JSON object; never a digest
) STRICT;

-- Single events, append-only but for retention. seq is the order in which they came, never used twice: what reads on
-- from where it was (rollups now, billing later) needs no other index. The id is the UUID's 16 bytes.
-- The upper bound of every number is 2^48: 281 TB, 281 million of the currency or 8.9 years in one call are not real,
-- and 32,768 such calls in one minute would still add up within 64 bits.
CREATE TABLE entries (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id      BLOB NOT NULL UNIQUE CHECK (length(event_id) = 16),
    started_us    INTEGER NOT NULL CHECK (started_us BETWEEN 0 AND 9223372036854775),
    tenant        TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    plan          TEXT NOT NULL,
    sandbox       INTEGER NOT NULL CHECK (sandbox IN (0, 1)),
    route         TEXT NOT NULL,
    method        TEXT NOT NULL,
    status        INTEGER NOT NULL CHECK (status BETWEEN 0 AND 999),
    outcome       TEXT NOT NULL,
    units         INTEGER NOT NULL CHECK (units BETWEEN 0 AND 281474976710656),
    cost          INTEGER NOT NULL CHECK (cost BETWEEN 0 AND 281474976710656),
    bytes_in      INTEGER NOT NULL CHECK (bytes_in BETWEEN 0 AND 281474976710656),
    bytes_out     INTEGER NOT NULL CHECK (bytes_out BETWEEN 0 AND 281474976710656),
    total_us      INTEGER NOT NULL CHECK (total_us BETWEEN 0 AND 281474976710656),
    upstream_us   INTEGER NOT NULL CHECK (upstream_us BETWEEN 0 AND 281474976710656),
    first_byte_us INTEGER NOT NULL CHECK (first_byte_us BETWEEN 0 AND 281474976710656),
    meters        TEXT NOT NULL     -- JSON object of meter name to integer
) STRICT;

-- Sums per minute. A tenant's report is one range of the primary key; the rows stay when the events go.
CREATE TABLE rollups (
    tenant        TEXT NOT NULL,
    minute        INTEGER NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    requests      INTEGER NOT NULL,
    units         INTEGER NOT NULL,
    cost          INTEGER NOT NULL,
    bytes_in      INTEGER NOT NULL,
    bytes_out     INTEGER NOT NULL,
    total_us      INTEGER NOT NULL,
    upstream_us   INTEGER NOT NULL,
    indeterminate INTEGER NOT NULL,
    PRIMARY KEY (tenant, minute, key_id, route, status_class, sandbox)
) STRICT, WITHOUT ROWID;

-- The same per meter; a quota's question (one tenant, one meter, some minutes) is one range of the primary key.
CREATE TABLE meter_rollups (
    tenant       TEXT NOT NULL,
    meter        TEXT NOT NULL,
    minute       INTEGER NOT NULL,
    key_id       TEXT NOT NULL,
    route        TEXT NOT NULL,
    status_class INTEGER NOT NULL,
    sandbox      INTEGER NOT NULL,
    value        INTEGER NOT NULL,
    PRIMARY KEY (tenant, meter, minute, key_id, route, status_class, sandbox)
) STRICT, WITHOUT ROWID;

-- How much of each journal is in entries; moved in the transaction that adds them. 0 is the only journal of one process.
CREATE TABLE journal_positions (
    journal INTEGER PRIMARY KEY,
    segment INTEGER NOT NULL,
    byte    INTEGER NOT NULL
) STRICT;
INSERT INTO journal_positions VALUES (0, 0, 0);

-- Journal records that are no entries, and why. The newest 10,000 are kept; seq counts all there ever were.
CREATE TABLE rejected_records (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    segment INTEGER NOT NULL,       -- the position moved to with the batch that it came in
    byte    INTEGER NOT NULL,
    reason  TEXT NOT NULL,
    payload BLOB NOT NULL
) STRICT;
