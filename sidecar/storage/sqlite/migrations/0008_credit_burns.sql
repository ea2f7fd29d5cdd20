-- What of a grant was paid, and when its money was earned.

-- Of the amount, what was given away; the rest was paid. All that was granted before counts as paid.
ALTER TABLE credit_grants ADD COLUMN bonus INTEGER NOT NULL DEFAULT 0 CHECK (bonus >= 0 AND bonus <= amount);

-- Settled: of the use of [begin_minute, end_minute), which cost due, the grant paid from above to above + amount, and
-- earned is the part of it for which money came in. Micro-units. What was burned before this table was there is written
-- down as if it had been used evenly up to the book's minute.
CREATE TABLE credit_burns (
    tenant       TEXT NOT NULL,
    source       TEXT NOT NULL,
    begin_minute INTEGER NOT NULL,
    end_minute   INTEGER NOT NULL,
    due          INTEGER NOT NULL,
    above        INTEGER NOT NULL,
    amount       INTEGER NOT NULL,
    earned       INTEGER NOT NULL,
    currency     TEXT NOT NULL,
    PRIMARY KEY (tenant, source, begin_minute)
) STRICT, WITHOUT ROWID;

INSERT INTO credit_burns
SELECT tenant, source, granted_ns / 60000000000, max(until_minute, granted_ns / 60000000000 + 1), burned, 0, burned,
    burned, currency
FROM credit_grants JOIN credit_books USING (tenant) WHERE burned > 0;
