-- How far something was read that goes on elsewhere: Unix seconds.

CREATE TABLE cursors (
    what TEXT NOT NULL PRIMARY KEY,
    at_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
