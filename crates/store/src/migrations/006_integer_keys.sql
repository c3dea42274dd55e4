-- Each installation has a number, by which its sets and every index know it, and texts that thousands
-- of rows repeat are written once: small rows, and few pages for each change.

DROP INDEX installations_of_company;
DROP INDEX installations_changed;
DROP INDEX installations_refresh_due;
DROP INDEX installations_resting;
DROP INDEX installations_checked;
DROP INDEX installations_checked_down;
DROP INDEX installations_expiring;
DROP INDEX installations_in_trouble;
DROP INDEX installations_unlisted;
ALTER TABLE installations RENAME TO installations_5;
ALTER TABLE sets RENAME TO sets_5;

-- The scopes of an app, and the companies of its locations.
CREATE TABLE texts (
    number INTEGER PRIMARY KEY,
    text   TEXT NOT NULL UNIQUE
) STRICT;

-- The keys that sealed values rest under, by their ids in the envelopes.
CREATE TABLE seals (
    number INTEGER PRIMARY KEY,
    key_id BLOB NOT NULL UNIQUE
) STRICT;

CREATE TABLE installations (
    number              INTEGER PRIMARY KEY,
    kind                TEXT    NOT NULL CHECK (kind IN ('location', 'company')),
    id                  TEXT    NOT NULL,
    epoch               INTEGER NOT NULL,   -- with the generation: which of the sets it stands on
    generation          INTEGER NOT NULL,
    place               INTEGER NOT NULL,   -- of that set
    previous_epoch      INTEGER,            -- the set before, if it is kept
    previous_generation INTEGER,
    previous_place      INTEGER,
    previous_until      INTEGER,
    state               TEXT,               -- uncertain, suspended, broken; none when connected
    since               INTEGER,            -- instants are milliseconds since 1970 in UTC
    attempts            INTEGER,
    retry_at            INTEGER,
    said                TEXT,
    issued_at           INTEGER NOT NULL,
    expires_at          INTEGER NOT NULL,
    scopes              INTEGER NOT NULL,   -- one of the texts
    company             INTEGER,            -- one of the texts
    refresh_due_at      INTEGER,            -- none when only a person can help
    intent_since        INTEGER,
    lease_flight        TEXT,
    lease_until         INTEGER,
    checked_at          INTEGER,
    check_health        TEXT,
    check_code          TEXT,
    check_said          TEXT,
    connected_at        INTEGER NOT NULL,
    name                TEXT,
    unlisted_at         INTEGER,
    changed             INTEGER NOT NULL,
    UNIQUE (kind DESC, id)                  -- locations come before companies
) STRICT;

-- A new set is written over the one that it makes superfluous, or at the end.
CREATE TABLE sets (
    place      INTEGER PRIMARY KEY,
    whose      INTEGER NOT NULL,            -- the installation's number
    epoch      INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    seal       INTEGER,                     -- one of the seals; none where nothing is sealed
    sealed     BLOB    NOT NULL
) STRICT;

INSERT INTO texts (text) SELECT scopes FROM installations_5
    UNION SELECT company FROM installations_5 WHERE company IS NOT NULL;

INSERT INTO installations (kind, id, epoch, generation, place, previous_epoch, previous_generation,
    previous_until, state, since, attempts, retry_at, said, issued_at, expires_at, scopes, company, refresh_due_at,
    intent_since, lease_flight, lease_until, checked_at, check_health, check_code, check_said, connected_at,
    name, unlisted_at, changed)
SELECT kind, id, epoch, generation, 0, previous_epoch, previous_generation, previous_until,
    nullif(state, 'connected'), since, attempts, retry_at, said, issued_at, expires_at,
    (SELECT number FROM texts WHERE text = scopes), (SELECT number FROM texts WHERE text = company),
    refresh_due_at, intent_since, lease_flight, lease_until, checked_at, check_health, check_code, check_said,
    connected_at, name, unlisted_at, changed
FROM installations_5 ORDER BY kind DESC, id;

INSERT INTO seals (key_id) SELECT key_id FROM sets_5 WHERE length(key_id) = 8
    UNION SELECT key_id FROM removed WHERE length(key_id) = 8
    UNION SELECT key_id FROM parked WHERE length(key_id) = 8;

-- Only the sets that an installation stands on: no other was ever read.
INSERT INTO sets (whose, epoch, generation, seal, sealed)
SELECT number, old.epoch, old.generation, (SELECT number FROM seals WHERE seals.key_id = old.key_id), sealed
FROM installations AS of JOIN sets_5 AS old ON old.kind = of.kind AND old.id = of.id
    AND ((old.epoch = of.epoch AND old.generation = of.generation)
        OR (old.epoch = of.previous_epoch AND old.generation = of.previous_generation))
ORDER BY number;
CREATE INDEX sets_by_owner ON sets (whose, epoch, generation);
UPDATE installations SET
    place = coalesce((SELECT sets.place FROM sets WHERE whose = number
        AND sets.epoch = installations.epoch AND sets.generation = installations.generation), 0),
    previous_place = (SELECT sets.place FROM sets WHERE whose = number
        AND sets.epoch = previous_epoch AND sets.generation = previous_generation);
DROP INDEX sets_by_owner;

DROP TABLE installations_5;
DROP TABLE sets_5;

DROP INDEX removed_by_key;
DROP INDEX parked_by_key;
ALTER TABLE removed ADD COLUMN seal INTEGER;
ALTER TABLE parked  ADD COLUMN seal INTEGER;
UPDATE removed SET seal = (SELECT number FROM seals WHERE seals.key_id = removed.key_id);
UPDATE parked  SET seal = (SELECT number FROM seals WHERE seals.key_id = parked.key_id);
ALTER TABLE removed DROP COLUMN key_id;
ALTER TABLE parked  DROP COLUMN key_id;
CREATE INDEX removed_by_seal ON removed (seal);
CREATE INDEX parked_by_seal  ON parked (seal);
