-- What happened to each installation, the latest fifty lines of it.

CREATE TABLE @.history (
    number     bigint GENERATED ALWAYS AS IDENTITY,
    kind       text COLLATE "C" NOT NULL,
    id         text COLLATE "C" NOT NULL,
    at         bigint NOT NULL,
    epoch      bigint NOT NULL,
    generation bigint NOT NULL,
    expires_at bigint NOT NULL,
    stand      text NOT NULL,                   -- connected, uncertain, suspended, broken
    said       text,
    PRIMARY KEY (kind, id, at, generation, stand)
);
CREATE UNIQUE INDEX history_by_number ON @.history (number);
CREATE INDEX history_by_time ON @.history (at);
