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
