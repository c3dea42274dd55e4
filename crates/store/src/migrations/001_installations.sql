-- Plain columns to search by; what could be used to get at a customer's data is sealed.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,   -- store_id, key_id, canary
    value ANY NOT NULL
) STRICT;

CREATE TABLE installations (
    kind          TEXT    NOT NULL CHECK (kind IN ('location', 'company')),
    id            TEXT    NOT NULL,
    epoch         INTEGER NOT NULL,
    generation    INTEGER NOT NULL,
    state         TEXT    NOT NULL,   -- connected, uncertain, suspended, broken
    since         INTEGER,            -- instants are milliseconds since 1970 in UTC
    attempts      INTEGER,
    retry_at      INTEGER,
    said          TEXT,
    issued_at     INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    scopes        TEXT    NOT NULL,
    fingerprint   BLOB,               -- keyed digest of the refresh token
    tokens        BLOB    NOT NULL,   -- sealed
    previous      BLOB,               -- sealed
    intent_since  INTEGER,
    intent_flight TEXT,
    lease_flight  TEXT,
    lease_until   INTEGER,
    checked_at    INTEGER,
    check_health  TEXT,
    check_code    TEXT,
    check_said    TEXT,
    PRIMARY KEY (kind, id)
) STRICT;
