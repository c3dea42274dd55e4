-- What is sealed rests apart from what is searched by: a look at how all of them stand, a lease or a
-- check touches small rows only. When a refresh is due is written down, so that an index finds it.

ALTER TABLE installations RENAME TO installations_before;
DROP INDEX installations_changed;

CREATE TABLE installations (
    kind                TEXT    NOT NULL CHECK (kind IN ('location', 'company')),
    id                  TEXT    NOT NULL,
    epoch               INTEGER NOT NULL,   -- with the generation: which of the sets it stands on
    generation          INTEGER NOT NULL,
    previous_epoch      INTEGER,            -- the set before, if it is kept
    previous_generation INTEGER,
    previous_until      INTEGER,
    state               TEXT    NOT NULL,   -- connected, uncertain, suspended, broken
    since               INTEGER,            -- instants are milliseconds since 1970 in UTC
    attempts            INTEGER,
    retry_at            INTEGER,
    said                TEXT,
    issued_at           INTEGER NOT NULL,
    expires_at          INTEGER NOT NULL,
    scopes              TEXT    NOT NULL,
    company             TEXT,
    fingerprint         BLOB,               -- keyed digest of the refresh token
    refresh_due_at      INTEGER,            -- none when only a person can help
    intent_since        INTEGER,
    lease_flight        TEXT,
    lease_until         INTEGER,
    checked_at          INTEGER,
    check_health        TEXT,
    check_code          TEXT,
    check_said          TEXT,
    changed             INTEGER NOT NULL,
    PRIMARY KEY (kind DESC, id)             -- locations come before companies
) STRICT, WITHOUT ROWID;

CREATE INDEX installations_changed ON installations (changed);
CREATE INDEX installations_refresh_due ON installations (refresh_due_at) WHERE refresh_due_at IS NOT NULL;
CREATE INDEX installations_resting ON installations (retry_at) WHERE retry_at IS NOT NULL;
CREATE INDEX installations_checked ON installations (checked_at);
CREATE INDEX installations_checked_down ON installations (checked_at) WHERE check_health = 'down';

CREATE TABLE sets (
    kind       TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    epoch      INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    sealed     BLOB    NOT NULL,
    PRIMARY KEY (kind, id, epoch, generation)
) STRICT, WITHOUT ROWID;

INSERT INTO installations (kind, id, epoch, generation, state, since, attempts, retry_at, said, issued_at,
    expires_at, scopes, fingerprint, intent_since, lease_flight, lease_until, checked_at, check_health,
    check_code, check_said, changed)
SELECT kind, id, epoch, generation, state, since, attempts, retry_at, said, issued_at,
    expires_at, scopes, fingerprint, intent_since, lease_flight, lease_until, checked_at, check_health,
    check_code, check_said, changed FROM installations_before;

INSERT INTO sets SELECT kind, id, epoch, generation, tokens FROM installations_before;

-- The sets before, the companies and what is due: `migrate.rs` goes on, and drops the old table.
