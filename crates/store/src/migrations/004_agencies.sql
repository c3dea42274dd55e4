-- When an epoch began, what people call an installation, since when HighLevel's list is without it;
-- and why the store is on standby, if it is (`standby` in meta).

ALTER TABLE installations ADD COLUMN connected_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE installations ADD COLUMN name TEXT;
ALTER TABLE installations ADD COLUMN unlisted_at INTEGER;

CREATE INDEX installations_of_company ON installations (company, kind DESC, id);
