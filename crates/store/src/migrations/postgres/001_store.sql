-- One small row for each installation, and its sealed sets of tokens apart from it. Plain columns to
-- search by; what could be used to get at a customer's data is sealed. `@.` is the schema.

CREATE TABLE @.meta (
    name  text PRIMARY KEY,   -- store_id, key_id, canary, standby
    value bytea NOT NULL
);

CREATE TABLE @.installations (
    kind                text   COLLATE "C" NOT NULL CHECK (kind IN ('location', 'company')),
    id                  text   COLLATE "C" NOT NULL,
    epoch               bigint NOT NULL,   -- with the generation: which of the sets it stands on
    generation          bigint NOT NULL,
    previous_epoch      bigint,            -- the set before, if it is kept
    previous_generation bigint,
    previous_until      bigint,
    state               text   NOT NULL,   -- connected, uncertain, suspended, broken
    since               bigint,            -- instants are milliseconds since 1970 in UTC
    attempts            bigint,
    retry_at            bigint,
    said                text,
    issued_at           bigint NOT NULL,
    expires_at          bigint NOT NULL,
    scopes              text   NOT NULL,
    company             text   COLLATE "C",
    refresh_due_at      bigint,            -- none when only a person can help
    intent_since        bigint,            -- by the clock of whoever began it
    intent_at           bigint,            -- the same by the database's clock, as the lease
    lease_flight        text,
    lease_until         bigint,
    checked_at          bigint,
    check_health        text,
    check_code          text,
    check_said          text,
    connected_at        bigint NOT NULL,
    name                text,
    sought              text   NOT NULL,   -- id and name in small letters
    unlisted_at         bigint,
    changed             bigint NOT NULL,   -- in which transaction
    PRIMARY KEY (kind, id)
) WITH (fillfactor = 95);

CREATE INDEX installations_changed ON @.installations (changed);
CREATE INDEX installations_refresh_due ON @.installations (refresh_due_at, kind DESC, id)
    WHERE refresh_due_at IS NOT NULL;
CREATE INDEX installations_resting ON @.installations (retry_at) WHERE retry_at IS NOT NULL;
CREATE INDEX installations_checked ON @.installations ((coalesce(checked_at, -9223372036854775808)), kind DESC, id);
CREATE INDEX installations_checked_down ON @.installations (checked_at, kind DESC, id)
    WHERE check_health = 'down';
CREATE INDEX installations_expiring ON @.installations (expires_at, kind DESC, id);
CREATE INDEX installations_of_company ON @.installations (company, kind DESC, id);
CREATE INDEX installations_not_connected ON @.installations (state, kind DESC, id)
    WHERE state <> 'connected';

CREATE TABLE @.sets (
    kind       text   COLLATE "C" NOT NULL,
    id         text   COLLATE "C" NOT NULL,
    epoch      bigint NOT NULL,
    generation bigint NOT NULL,
    key_id     text   COLLATE "C" NOT NULL,
    sealed     bytea  NOT NULL,
    PRIMARY KEY (kind, id, epoch, generation)
);
-- Random bytes can't be compressed.
ALTER TABLE @.sets ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX sets_key ON @.sets (key_id);

CREATE TABLE @.removed (
    kind       text   COLLATE "C" NOT NULL,
    id         text   COLLATE "C" NOT NULL,
    epoch      bigint NOT NULL,
    generation bigint NOT NULL,
    key_id     text,                       -- none where nothing was kept
    tokens     bytea,                      -- sealed, as they were in `sets`
    removed_at bigint NOT NULL,
    changed    bigint NOT NULL,
    PRIMARY KEY (kind, id)
);
ALTER TABLE @.removed ALTER COLUMN tokens SET STORAGE EXTERNAL;
CREATE INDEX removed_changed ON @.removed (changed);
CREATE INDEX removed_at ON @.removed (removed_at);
CREATE INDEX removed_key ON @.removed (key_id);

CREATE TABLE @.parked (
    kind    text   COLLATE "C" NOT NULL,
    id      text   COLLATE "C" NOT NULL,
    company text   COLLATE "C",
    scopes  text   NOT NULL,
    at      bigint NOT NULL,
    key_id  text   COLLATE "C" NOT NULL,
    tokens  bytea  NOT NULL,               -- sealed
    PRIMARY KEY (kind, id)
);
CREATE INDEX parked_key ON @.parked (key_id);
