-- Prepaid credits, and what tenants were told of their quotas.

CREATE TABLE credit_grants (
    tenant     TEXT NOT NULL,
    source     TEXT NOT NULL,
    amount     INTEGER NOT NULL CHECK (amount > 0),                          -- micro-units
    currency   TEXT NOT NULL,
    granted_ns INTEGER NOT NULL,
    priority   INTEGER NOT NULL,
    expires_ns INTEGER,
    revoked_ns INTEGER,
    note       TEXT NOT NULL,
    burned     INTEGER NOT NULL CHECK (burned >= 0 AND burned <= amount),    -- up to the book's minute
    PRIMARY KEY (tenant, source)
) STRICT, WITHOUT ROWID;

-- All use of minutes before until_minute is settled.
CREATE TABLE credit_books (
    tenant       TEXT NOT NULL PRIMARY KEY,
    until_minute INTEGER NOT NULL,
    uncovered    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Shares of quotas that were reached, each told once.
CREATE TABLE crossings (
    tenant    TEXT NOT NULL,
    name      TEXT NOT NULL,
    start_s   INTEGER NOT NULL,
    threshold INTEGER NOT NULL,     -- percent
    quantity  INTEGER NOT NULL,     -- of which it is a share
    end_s     INTEGER NOT NULL,
    used      INTEGER NOT NULL,
    at_ns     INTEGER NOT NULL,
    PRIMARY KEY (tenant, name, start_s, threshold, quantity)
) STRICT, WITHOUT ROWID;

CREATE INDEX crossings_by_end ON crossings (end_s);

-- What a tenant has of its own: anchor, time zone and overrides, as JSON; NULL: nothing.
ALTER TABLE tenants ADD COLUMN terms TEXT;
