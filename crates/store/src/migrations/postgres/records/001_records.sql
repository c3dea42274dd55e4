-- What the service remembers beside tokens. Nothing in here is secret; instants are milliseconds since
-- 1970 in UTC, by the clocks of those who write them. `number` tells what came later among what has the
-- same instant. `@.` is the schema.

CREATE TABLE @.counters (
    name  text PRIMARY KEY,           -- keys: grows with every key that is added or revoked
    value bigint NOT NULL
);
INSERT INTO @.counters VALUES ('keys', 1);

CREATE TABLE @.keys (
    id         text COLLATE "C" PRIMARY KEY,   -- the public part
    name       text   NOT NULL,
    hash       bytea  NOT NULL,       -- SHA-256 of the whole key
    verbs      text   NOT NULL,       -- separated by spaces
    reach      text,                  -- JSON list of [kind, id]; null is all
    created_at bigint NOT NULL,
    expires_at bigint,
    revoked_at bigint,
    used_at    bigint,
    used_from  text
);

CREATE TABLE @.sources (              -- from where each key has come
    key      text   COLLATE "C" NOT NULL,
    source   text   NOT NULL,         -- an address, or unix
    first_at bigint NOT NULL,
    PRIMARY KEY (key, source)
);

CREATE TABLE @.audit (
    number     bigint GENERATED ALWAYS AS IDENTITY,
    at         bigint NOT NULL,
    key        text   COLLATE "C" NOT NULL,
    kind       text   COLLATE "C" NOT NULL,
    id         text   COLLATE "C" NOT NULL,
    generation bigint NOT NULL,
    count      bigint NOT NULL,
    request_id text
);
CREATE INDEX audit_by_time ON @.audit (at, number);
CREATE INDEX audit_by_key ON @.audit (key, kind, id, at);
CREATE UNIQUE INDEX audit_counted ON @.audit (at, key, kind, id, generation) WHERE request_id IS NULL;

CREATE TABLE @.checks (
    number  bigint GENERATED ALWAYS AS IDENTITY,
    kind    text   COLLATE "C" NOT NULL,
    id      text   COLLATE "C" NOT NULL,
    at      bigint NOT NULL,
    took_ms bigint NOT NULL,
    cause   text   NOT NULL,          -- clock, command, api
    health  text   NOT NULL,
    code    text,
    said    text,
    steps   text   NOT NULL           -- JSON list of [name, ok, milliseconds, trace id]
);
CREATE INDEX checks_by_time ON @.checks (at, number);
CREATE INDEX checks_by_installation ON @.checks (kind, id, at, number);

CREATE TABLE @.standings (
    kind     text   COLLATE "C" NOT NULL,      -- location, company, service and so on
    id       text   COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    health   text   NOT NULL,
    since    bigint NOT NULL,
    failures bigint NOT NULL,
    code     text,
    said     text,
    told     text   NOT NULL,
    told_at  bigint,
    changes  bigint[] NOT NULL,
    PRIMARY KEY (kind, id)
);

CREATE TABLE @.notices (
    notice text COLLATE "C" PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY,
    at     bigint NOT NULL,
    kind   text   COLLATE "C" NOT NULL,
    id     text   COLLATE "C" NOT NULL,
    tells  text   NOT NULL,           -- trouble, recovered, reminder and so on
    health text   NOT NULL,
    since  bigint NOT NULL,
    code   text,
    said   text
);
CREATE INDEX notices_by_time ON @.notices (at, number);

CREATE TABLE @.deliveries (
    notice       text COLLATE "C" NOT NULL REFERENCES @.notices (notice),
    way          text COLLATE "C" NOT NULL,
    attempts     bigint NOT NULL,
    due_at       bigint NOT NULL,     -- also the end of a lease
    delivered_at bigint,
    said         text,
    PRIMARY KEY (notice, way)
);
CREATE INDEX deliveries_due ON @.deliveries (due_at) WHERE delivered_at IS NULL;

CREATE TABLE @.maintenances (
    maintenance text COLLATE "C" PRIMARY KEY,
    kind        text,
    id          text,
    from_at     bigint NOT NULL,
    until_at    bigint NOT NULL,
    reason      text   NOT NULL
);

CREATE TABLE @.visits (
    state      bytea PRIMARY KEY,     -- SHA-256
    browser    bytea  NOT NULL,       -- SHA-256
    expires_at bigint NOT NULL
);

CREATE TABLE @.turns (
    name     text COLLATE "C" PRIMARY KEY,
    until_at bigint NOT NULL
);

-- What HighLevel told of, on its way to whoever acts on it. An event that was acted on stays for a week,
-- without its body, so that it is known when it comes again.
CREATE TABLE @.events (
    event       text COLLATE "C" PRIMARY KEY,  -- HighLevel's webhookId, or a digest of the body
    number      bigint GENERATED ALWAYS AS IDENTITY,
    kind        text   NOT NULL,      -- HighLevel's type
    body        bytea,                -- word for word, until it was acted on
    received_at bigint NOT NULL,
    attempts    bigint NOT NULL,
    due_at      bigint NOT NULL,      -- also the end of a lease
    done_at     bigint,
    outcome     text                  -- what came of it, or why nothing has yet
);
CREATE INDEX events_due ON @.events (due_at) WHERE done_at IS NULL;
CREATE INDEX events_done ON @.events (received_at) WHERE done_at IS NOT NULL;
