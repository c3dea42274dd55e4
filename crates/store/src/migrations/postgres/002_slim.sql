-- Slim: the indexes for looking are made by the program, from one list, whenever one is missing (see
-- `postgres/indexes.rs`), so that very many can be put before they are made. Those that held whole ids
-- hold the beginnings of ids now. `sought` holds only the name in small letters from now on; what is
-- there may stay.

DROP INDEX IF EXISTS @.installations_refresh_due;
DROP INDEX IF EXISTS @.installations_checked;
DROP INDEX IF EXISTS @.installations_checked_down;
DROP INDEX IF EXISTS @.installations_expiring;
DROP INDEX IF EXISTS @.installations_of_company;

-- Every change moves a row in an index anyway, so that room beside it would help nobody; what is left
-- behind is taken up soon, however many there are.
ALTER TABLE @.installations SET (fillfactor = 100, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE @.sets SET (autovacuum_vacuum_scale_factor = 0.05);

-- A set is found by its id alone, and there are two of one at most. That each is there once is for the
-- row of its installation to see to: whoever puts a set holds that row or makes it.
ALTER TABLE @.sets DROP CONSTRAINT sets_pkey;
ALTER TABLE @.sets REPLICA IDENTITY FULL;
CREATE INDEX sets_of ON @.sets USING hash (id);

-- What is asked most often, as functions: the database keeps their plans from one time to the next, also
-- behind a pooler, where no statement can be prepared.
CREATE FUNCTION @.found(its_kind text, its_id text)
RETURNS TABLE (at_rest @.installations, sealed bytea, sealed_before bytea)
LANGUAGE plpgsql STABLE ROWS 1 AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT i, s.sealed, p.sealed FROM @.installations i
        LEFT JOIN @.sets s ON s.id = its_id AND s.kind = its_kind
            AND s.epoch = i.epoch AND s.generation = i.generation
        LEFT JOIN @.sets p ON p.id = its_id AND p.kind = its_kind
            AND p.epoch = i.previous_epoch AND p.generation = i.previous_generation
        WHERE i.kind = its_kind AND i.id = its_id;
END $$;

-- Puts the next generation in the place of the one that was seen, if that is still there, and if the
-- newest key is among those known to whoever asks: with its set, without the one before the last, and
-- without the lease.
CREATE FUNCTION @.replace(
    its_kind text, its_id text, next_epoch bigint, next_generation bigint, old_epoch bigint,
    old_generation bigint, keep_until bigint, next_issued_at bigint, next_expires_at bigint,
    next_scopes text, next_company text, next_due_at bigint, its_key_id text, its_sealed bytea,
    known_keys text[])
RETURNS SETOF @.installations
LANGUAGE plpgsql ROWS 1 AS $$
#variable_conflict use_column
DECLARE
    saved @.installations;
BEGIN
    UPDATE @.installations SET
        epoch = next_epoch, generation = next_generation,
        previous_epoch = epoch, previous_generation = generation, previous_until = keep_until,
        state = 'connected', since = NULL, attempts = NULL, retry_at = NULL, said = NULL,
        issued_at = next_issued_at, expires_at = next_expires_at, scopes = next_scopes,
        company = next_company, refresh_due_at = next_due_at,
        intent_since = NULL, intent_at = NULL, lease_flight = NULL, lease_until = NULL,
        changed = pg_current_xact_id()::text::bigint
    WHERE kind = its_kind AND id = its_id AND epoch = old_epoch AND generation = old_generation
        AND (SELECT convert_from(value, 'UTF8') FROM @.meta WHERE name = 'key_id') = ANY(known_keys)
    RETURNING * INTO saved;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    DELETE FROM @.sets WHERE id = its_id AND kind = its_kind
        AND NOT (epoch = old_epoch AND generation = old_generation);
    INSERT INTO @.sets (kind, id, epoch, generation, key_id, sealed)
        VALUES (its_kind, its_id, next_epoch, next_generation, its_key_id, its_sealed);
    RETURN NEXT saved;
END $$;
