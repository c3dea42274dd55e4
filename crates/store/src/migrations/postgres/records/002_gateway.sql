-- What a key may send through the gateway, a line each, and in which lane its requests wait.

ALTER TABLE @.keys ADD COLUMN lane text NOT NULL DEFAULT 'interactive';
ALTER TABLE @.keys ADD COLUMN allowed text NOT NULL DEFAULT '';

-- Rate budgets that replicas share: what of each counts until when. It is of the moment: nothing is
-- flushed for it, and after a crash it begins anew. Instants in here are microseconds since 1970 by this
-- database's clock.
CREATE UNLOGGED TABLE @.budgets (
    budget  text   COLLATE "C" PRIMARY KEY,
    untils  bigint[] NOT NULL DEFAULT '{}',    -- in order
    counts  bigint[] NOT NULL DEFAULT '{}',
    used_at bigint NOT NULL DEFAULT 0          -- when permits were given last
) WITH (fillfactor = 50);

-- Gives permits, so that of any interval no more than `most` are given. Those of one hundredth of the
-- interval count together, for as long as the last of them may. Where none are wanted it only reads.
CREATE FUNCTION @.take_permits(
    its_budget text, wanted bigint, most bigint, within bigint,
    OUT granted bigint, OUT taken bigint, OUT wait bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    kept @.budgets;
    at bigint;
    was_set_back boolean;
    untils bigint[] := '{}';
    counts bigint[] := '{}';
    last int := 0;
    too_many bigint;
BEGIN
    LOOP
        IF wanted > 0 THEN
            SELECT * INTO kept FROM @.budgets AS b WHERE b.budget = its_budget FOR UPDATE;
        ELSE
            SELECT * INTO kept FROM @.budgets AS b WHERE b.budget = its_budget;
        END IF;
        EXIT WHEN FOUND OR wanted <= 0;
        INSERT INTO @.budgets (budget) VALUES (its_budget) ON CONFLICT DO NOTHING;
    END LOOP;
    -- Only now, when nobody else has it.
    at := floor(extract(epoch FROM clock_timestamp()) * 1000000);
    -- Where the clock was set back, it goes on as if no time had passed since the last permits.
    was_set_back := coalesce(kept.used_at > at, false);
    taken := 0;
    FOR each IN 1 .. coalesce(cardinality(kept.untils), 0) LOOP
        IF was_set_back THEN
            kept.untils[each] := kept.untils[each] - (kept.used_at - at);
        END IF;
        -- What was given while the interval was taken for longer counts no longer than what is given now.
        kept.untils[each] := least(kept.untils[each], at + within + greatest(within / 100, 1));
        IF kept.untils[each] > at THEN
            untils := untils || kept.untils[each];
            counts := counts || kept.counts[each];
            taken := taken + kept.counts[each];
            last := last + 1;
        END IF;
    END LOOP;
    granted := greatest(least(wanted, most - taken), 0);
    taken := taken + granted;
    IF granted > 0 THEN
        IF last > 0 AND at + within < untils[last] THEN
            counts[last] := counts[last] + granted;
        ELSE
            untils := untils || at + within + greatest(within / 100, 1);
            counts := counts || granted;
            last := last + 1;
        END IF;
    END IF;
    wait := 0;
    IF granted < wanted THEN
        -- More than `most` may be out where it has become less.
        wait := within;
        too_many := taken - most;
        FOR each IN 1 .. last LOOP
            too_many := too_many - counts[each];
            IF too_many < 0 THEN
                wait := untils[each] - at;
                EXIT;
            END IF;
        END LOOP;
    END IF;
    IF granted > 0 OR (was_set_back AND wanted > 0) THEN
        UPDATE @.budgets AS b SET untils = untils, counts = counts, used_at = at
            WHERE b.budget = its_budget;
    END IF;
END $$;
