-- What the checks of each day found, summed up as they are added, so that 90 days of many installations are
-- few rows. A row with neither kind nor id is of all of them. Ordered by day: what is new lies together, and so
-- does what is forgotten.

CREATE TABLE days (
    day    INTEGER NOT NULL,          -- since 1970, in UTC
    kind   TEXT    NOT NULL,
    id     TEXT    NOT NULL,
    checks INTEGER NOT NULL,
    good   INTEGER NOT NULL,          -- operational or degraded
    PRIMARY KEY (day, kind, id)
) STRICT, WITHOUT ROWID;

INSERT INTO days SELECT at / 86400000, kind, id, count(*), sum(health IN ('operational', 'degraded'))
    FROM checks GROUP BY 1, 2, 3;
INSERT INTO days SELECT day, '', '', sum(checks), sum(good) FROM days GROUP BY 1;

-- Whoever adds a check, be it one that comes from elsewhere, counts it by that.
CREATE TRIGGER checks_counted AFTER INSERT ON checks BEGIN
    INSERT INTO days SELECT NEW.at / 86400000, kind, id, 1, NEW.health IN ('operational', 'degraded')
        FROM (SELECT '' AS kind, '' AS id UNION ALL SELECT NEW.kind, NEW.id) WHERE TRUE
        ON CONFLICT (day, kind, id) DO UPDATE SET checks = checks + 1, good = good + excluded.good;
END;

-- Pictures that say in a word how something is, for whoever has their addresses.
CREATE TABLE badges (
    badge      TEXT PRIMARY KEY,      -- what its address ends with: it opens nothing but that word
    kind       TEXT,                  -- null: of the whole service
    id         TEXT,
    label      TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
