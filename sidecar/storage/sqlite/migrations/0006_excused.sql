-- Usage of a minute that is asked of nobody: it ended while no subscription ran.

CREATE TABLE excused_minutes (
    tenant TEXT NOT NULL,
    meter  TEXT NOT NULL,
    minute INTEGER NOT NULL,
    value  INTEGER NOT NULL CHECK (value > 0),
    PRIMARY KEY (tenant, meter, minute)
) STRICT, WITHOUT ROWID;
