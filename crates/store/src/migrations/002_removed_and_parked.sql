-- Installations out of service, grants that wait for approval, and what changed when.

ALTER TABLE installations ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX installations_changed ON installations (changed);

INSERT INTO meta (name, value) VALUES ('changed', 0);

CREATE TABLE removed (
    kind       TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    epoch      INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    tokens     BLOB    NOT NULL,      -- sealed, as they were in the installation's row
    removed_at INTEGER NOT NULL,
    changed    INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT;
CREATE INDEX removed_changed ON removed (changed);

CREATE TABLE parked (
    kind    TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    company TEXT,
    scopes  TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    tokens  BLOB    NOT NULL,         -- sealed
    PRIMARY KEY (kind, id)
) STRICT;
