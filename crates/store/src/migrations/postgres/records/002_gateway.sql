-- What a key may send through the gateway, a line each, and in which lane its requests wait.

ALTER TABLE @.keys ADD COLUMN lane text NOT NULL DEFAULT 'interactive';
ALTER TABLE @.keys ADD COLUMN allowed text NOT NULL DEFAULT '';

-- Rate budgets that replicas share: what of each counts until when. It is of the moment: nothing is
-- flushed for it, and after a crash it begins anew.
CREATE UNLOGGED TABLE @.budgets (
    budget  text   COLLATE "C" PRIMARY KEY,
    untils  bigint[] NOT NULL DEFAULT '{}',    -- milliseconds since 1970 by this database's clock, in order
    counts  bigint[] NOT NULL DEFAULT '{}',
    used_at bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- Gives permits, so that of any interval no more than `most` are given. Those of one hundredth of the
-- interval count together, for as long as the last of them may.
CREATE FUNCTION @.take_permits(
    its_budget text, wanted bigint, most bigint, within bigint,
    OUT granted bigint, OUT taken bigint, OUT wait bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    row @.budgets;
    at bigint;
    past int := 0;
    last int;
BEGIN
    LOOP
        SELECT * INTO row FROM @.budgets AS b WHERE b.budget = its_budget FOR UPDATE;
        EXIT WHEN FOUND;
        INSERT INTO @.budgets (budget) VALUES (its_budget) ON CONFLICT DO NOTHING;
    END LOOP;
    -- Only now, when nobody else has it.
    at := floor(extract(epoch FROM clock_timestamp()) * 1000);
    last := cardinality(row.untils);
    WHILE past < last AND row.untils[past + 1] <= at LOOP
        past := past + 1;
    END LOOP;
    row.untils := row.untils[past + 1:];
    row.counts := row.counts[past + 1:];
    last := last - past;
    SELECT coalesce(sum(c), 0) INTO taken FROM unnest(row.counts) AS c;
    granted := greatest(least(wanted, most - taken), 0);
    taken := taken + granted;
    IF granted > 0 THEN
        IF last > 0 AND at + within <= row.untils[last] THEN
            row.counts[last] := row.counts[last] + granted;
        ELSE
            row.untils := row.untils || at + within + greatest(within / 100, 1);
            row.counts := row.counts || granted;
        END IF;
    END IF;
    wait := CASE WHEN granted < wanted AND cardinality(row.untils) > 0
        THEN greatest(row.untils[1] - at, 1) ELSE 0 END;
    UPDATE @.budgets AS b SET untils = row.untils, counts = row.counts, used_at = at
        WHERE b.budget = its_budget;
END $$;
