-- Lists in every order, and how many there are of what is rare, by an index; and under which key each
-- sealed value rests, so that a change of the key finds what is left to do at once.

DROP INDEX installations_changed;
DROP INDEX installations_refresh_due;
DROP INDEX installations_resting;
DROP INDEX installations_checked;
DROP INDEX installations_checked_down;

-- The rest of the primary key stands in each of them: SQLite would add it by itself, and forget that
-- locations come before companies.
CREATE INDEX installations_changed ON installations (changed, kind DESC, id);
CREATE INDEX installations_refresh_due ON installations (refresh_due_at, kind DESC, id)
    WHERE refresh_due_at IS NOT NULL;
CREATE INDEX installations_resting ON installations (retry_at, kind DESC, id) WHERE retry_at IS NOT NULL;
CREATE INDEX installations_checked ON installations (checked_at, kind DESC, id);
CREATE INDEX installations_checked_down ON installations (checked_at, kind DESC, id)
    WHERE check_health = 'down';
CREATE INDEX installations_expiring ON installations (expires_at, kind DESC, id);
CREATE INDEX installations_in_trouble ON installations (state, kind DESC, id) WHERE state <> 'connected';
CREATE INDEX installations_unlisted ON installations (unlisted_at) WHERE unlisted_at IS NOT NULL;

-- A table in the order of its rows: in one in the order of its keys, SQLite would put all but the
-- beginning of each sealed value on a page of its own. The key's id is as it stands in the envelope;
-- nothing where nothing is sealed.
CREATE TABLE sets_in_rows (
    kind       TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    epoch      INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    sealed     BLOB    NOT NULL,
    key_id     BLOB    GENERATED ALWAYS AS (substr(sealed, 2, 8)) VIRTUAL,
    PRIMARY KEY (kind, id, epoch, generation)
) STRICT;

INSERT INTO sets_in_rows (kind, id, epoch, generation, sealed)
    SELECT kind, id, epoch, generation, sealed FROM sets;
DROP TABLE sets;
ALTER TABLE sets_in_rows RENAME TO sets;

ALTER TABLE removed ADD COLUMN key_id BLOB GENERATED ALWAYS AS (substr(tokens, 2, 8)) VIRTUAL;
ALTER TABLE parked  ADD COLUMN key_id BLOB GENERATED ALWAYS AS (substr(tokens, 2, 8)) VIRTUAL;

CREATE INDEX sets_by_key    ON sets (key_id);
CREATE INDEX removed_by_key ON removed (key_id);
CREATE INDEX parked_by_key  ON parked (key_id);
