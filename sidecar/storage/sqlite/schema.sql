-- What the migrations make: generated, for reading. A test keeps it equal to them and says how to write it anew.

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

CREATE TABLE audit_log (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ns   INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL           -- JSON object; never a digest
) STRICT;

CREATE TABLE calls_by_day (
    tenant        TEXT NOT NULL,
    day           INTEGER NOT NULL,
    plan          TEXT NOT NULL,
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
    PRIMARY KEY (tenant, day, plan, key_id, route, status_class, sandbox)
) STRICT, WITHOUT ROWID;

CREATE TABLE calls_by_hour (
    tenant        TEXT NOT NULL,
    hour          INTEGER NOT NULL,
    plan          TEXT NOT NULL,
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
    PRIMARY KEY (tenant, hour, plan, key_id, route, status_class, sandbox)
) STRICT, WITHOUT ROWID;

CREATE TABLE calls_by_minute (
    tenant        TEXT NOT NULL,
    minute        INTEGER NOT NULL,
    plan          TEXT NOT NULL,
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
    PRIMARY KEY (tenant, minute, plan, key_id, route, status_class, sandbox)
) STRICT, WITHOUT ROWID;

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

CREATE INDEX entries_by_tenant ON entries (tenant, started_us);

CREATE TABLE journal_positions (
    journal INTEGER PRIMARY KEY,
    segment INTEGER NOT NULL,
    byte    INTEGER NOT NULL
) STRICT;

CREATE TABLE keys_version (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    value INTEGER NOT NULL
) STRICT;

CREATE TABLE latency_by_day (
    tenant        TEXT NOT NULL,
    day           INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    bucket        INTEGER NOT NULL, -- of total_us, as in core/latency.py
    calls         INTEGER NOT NULL,
    PRIMARY KEY (tenant, day, plan, key_id, route, status_class, sandbox, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE latency_by_hour (
    tenant        TEXT NOT NULL,
    hour          INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    bucket        INTEGER NOT NULL, -- of total_us, as in core/latency.py
    calls         INTEGER NOT NULL,
    PRIMARY KEY (tenant, hour, plan, key_id, route, status_class, sandbox, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE latency_by_minute (
    tenant        TEXT NOT NULL,
    minute        INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    bucket        INTEGER NOT NULL, -- of total_us, as in core/latency.py
    calls         INTEGER NOT NULL,
    PRIMARY KEY (tenant, minute, plan, key_id, route, status_class, sandbox, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE meters_by_day (
    tenant        TEXT NOT NULL,
    day           INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    meter         TEXT NOT NULL,
    value         INTEGER NOT NULL,
    PRIMARY KEY (tenant, day, plan, key_id, route, status_class, sandbox, meter)
) STRICT, WITHOUT ROWID;

CREATE TABLE meters_by_hour (
    tenant        TEXT NOT NULL,
    hour          INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    meter         TEXT NOT NULL,
    value         INTEGER NOT NULL,
    PRIMARY KEY (tenant, hour, plan, key_id, route, status_class, sandbox, meter)
) STRICT, WITHOUT ROWID;

CREATE TABLE meters_by_minute (
    tenant        TEXT NOT NULL,
    minute        INTEGER NOT NULL,
    plan          TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    route         TEXT NOT NULL,
    status_class  INTEGER NOT NULL, -- 2 for 2xx; 0: there was no reply
    sandbox       INTEGER NOT NULL,
    meter         TEXT NOT NULL,
    value         INTEGER NOT NULL,
    PRIMARY KEY (tenant, minute, plan, key_id, route, status_class, sandbox, meter)
) STRICT, WITHOUT ROWID;

CREATE TABLE moves (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    move   TEXT NOT NULL,           -- a UUID, which the other store knows too
    target TEXT NOT NULL,           -- the other store's address, without a password
    moved  INTEGER NOT NULL CHECK (moved IN (0, 1)) -- 1: everything is there, nothing is written here any more
) STRICT;

CREATE TABLE rejected_records (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    segment INTEGER NOT NULL,       -- the position moved to with the batch that it came in
    byte    INTEGER NOT NULL,
    reason  TEXT NOT NULL,
    payload BLOB NOT NULL
) STRICT;

CREATE TABLE tenants (
    name            TEXT NOT NULL PRIMARY KEY,
    plan            TEXT NOT NULL,
    state           TEXT NOT NULL,
    stripe_customer TEXT,
    created_ns      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
