-- What the service remembers beside tokens. Nothing in here is secret; instants are milliseconds
-- since 1970 in UTC.

CREATE TABLE counters (
    name  TEXT PRIMARY KEY,           -- keys: grows with every key that is added or revoked
    value INTEGER NOT NULL
) STRICT;
INSERT INTO counters VALUES ('keys', 1);

CREATE TABLE keys (
    id          TEXT PRIMARY KEY,     -- the public part
    name        TEXT    NOT NULL,
    hash        BLOB    NOT NULL,     -- SHA-256 of the whole key
    verbs       TEXT    NOT NULL,     -- separated by spaces
    reach       TEXT,                 -- JSON list of [kind, id]; null is all
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    revoked_at  INTEGER,
    used_at     INTEGER,
    used_from   TEXT
) STRICT;

CREATE TABLE audit (
    at         INTEGER NOT NULL,
    key        TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    count      INTEGER NOT NULL,
    request_id TEXT
) STRICT;
CREATE INDEX audit_by_time ON audit (at);
CREATE UNIQUE INDEX audit_counted ON audit (at, key, kind, id, generation) WHERE request_id IS NULL;

CREATE TABLE checks (
    kind    TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    took_ms INTEGER NOT NULL,
    cause   TEXT    NOT NULL,         -- clock, command, api
    health  TEXT    NOT NULL,
    code    TEXT,
    said    TEXT,
    steps   TEXT    NOT NULL          -- JSON list of [name, ok, milliseconds, trace id]
) STRICT;
CREATE INDEX checks_by_time ON checks (at);
CREATE INDEX checks_by_installation ON checks (kind, id, at);

CREATE TABLE standings (
    kind     TEXT    NOT NULL,        -- location, company, service
    id       TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    health   TEXT    NOT NULL,
    since    INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    code     TEXT,
    said     TEXT,
    told     TEXT    NOT NULL,
    told_at  INTEGER,
    changes  TEXT    NOT NULL,        -- JSON list of instants
    PRIMARY KEY (kind, id)
) STRICT;

CREATE TABLE notices (
    notice  TEXT PRIMARY KEY,
    at      INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    tells   TEXT    NOT NULL,         -- trouble, recovered, reminder and so on
    health  TEXT    NOT NULL,
    since   INTEGER NOT NULL,
    code    TEXT,
    said    TEXT
) STRICT;
CREATE INDEX notices_by_time ON notices (at);

CREATE TABLE deliveries (
    notice       TEXT    NOT NULL REFERENCES notices (notice),
    way          TEXT    NOT NULL,
    attempts     INTEGER NOT NULL,
    due_at       INTEGER NOT NULL,    -- also the end of a lease
    delivered_at INTEGER,
    said         TEXT,
    PRIMARY KEY (notice, way)
) STRICT;
CREATE INDEX deliveries_due ON deliveries (due_at) WHERE delivered_at IS NULL;

CREATE TABLE maintenances (
    maintenance TEXT PRIMARY KEY,
    kind        TEXT,
    id          TEXT,
    from_at     INTEGER NOT NULL,
    until_at    INTEGER NOT NULL,
    reason      TEXT    NOT NULL
) STRICT;

CREATE TABLE visits (
    state      BLOB PRIMARY KEY,      -- SHA-256
    browser    BLOB    NOT NULL,      -- SHA-256
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE turns (
    name     TEXT PRIMARY KEY,
    until_at INTEGER NOT NULL
) STRICT;
