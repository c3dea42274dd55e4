-- What happened to each installation, the latest fifty lines of it.

CREATE TABLE history (
    kind       TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    epoch      INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    stand      TEXT    NOT NULL,      -- connected, uncertain, suspended, broken
    said       TEXT,
    PRIMARY KEY (kind, id, at, generation, stand)
) STRICT;
CREATE INDEX history_by_time ON history (at);
