-- What the checks of each day found, summed up as they are added, so that 90 days of many installations are
-- few rows. A row with neither kind nor id is of all of them. Ordered by day: what is new lies together, and so
-- does what is forgotten.

CREATE TABLE @.days (
    day    bigint NOT NULL,           -- since 1970, in UTC
    kind   text   COLLATE "C" NOT NULL,
    id     text   COLLATE "C" NOT NULL,
    checks bigint NOT NULL,
    good   bigint NOT NULL,           -- operational or degraded
    PRIMARY KEY (day, kind, id)
) WITH (fillfactor = 80);

-- Whoever adds a check, be it one that comes from elsewhere or a replica that does not know of days, counts it by
-- that. All of them begin with the row of all: so none waits for another in a ring.
CREATE OR REPLACE FUNCTION @.count_check() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO @.days AS known
        SELECT NEW.at / 86400000, whose.kind, whose.id, 1, (NEW.health IN ('operational', 'degraded'))::int
        FROM (VALUES ('', ''), (NEW.kind, NEW.id)) AS whose (kind, id)
        ON CONFLICT (day, kind, id) DO UPDATE SET checks = known.checks + 1, good = known.good + excluded.good;
    RETURN NULL;
END $$;
-- From here on nobody adds one until all that are there are counted.
CREATE TRIGGER checks_counted AFTER INSERT ON @.checks FOR EACH ROW EXECUTE FUNCTION @.count_check();

INSERT INTO @.days SELECT at / 86400000, kind, id, count(*),
        count(*) FILTER (WHERE health IN ('operational', 'degraded'))
    FROM @.checks GROUP BY 1, 2, 3;
INSERT INTO @.days SELECT day, '', '', sum(checks), sum(good) FROM @.days GROUP BY 1;

-- Pictures that say in a word how something is, for whoever has their addresses.
CREATE TABLE @.badges (
    badge      text COLLATE "C" PRIMARY KEY,   -- what its address ends with: it opens nothing but that word
    kind       text,                  -- null: of the whole service
    id         text,
    label      text   NOT NULL,
    created_at bigint NOT NULL
);
