-- At most one row: this installation is being moved to another store, or was.
CREATE TABLE moves (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    move   TEXT NOT NULL,           -- a UUID, which the other store knows too
    target TEXT NOT NULL,           -- the other store's address, without a password
    moved  INTEGER NOT NULL CHECK (moved IN (0, 1)) -- 1: everything is there, nothing is written here any more
) STRICT;
