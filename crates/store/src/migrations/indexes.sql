-- What a store can do without while very many are put, and has before anything else: made at once, an
-- index costs a fraction of what it costs row by row. Each has the row's number at its end, so that
-- rows of the same instant keep an order.

CREATE INDEX IF NOT EXISTS installations_of_company ON installations (company, id)
    WHERE company IS NOT NULL;
CREATE INDEX IF NOT EXISTS installations_changed ON installations (changed);
-- Whose they are stands in it: what is due is told without a look at the rows, which lie far apart.
CREATE INDEX IF NOT EXISTS installations_refresh_due ON installations (refresh_due_at, number, kind, id)
    WHERE refresh_due_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS installations_resting ON installations (retry_at) WHERE retry_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS installations_checked ON installations (checked_at);
CREATE INDEX IF NOT EXISTS installations_checked_down ON installations (checked_at)
    WHERE check_health = 'down';
CREATE INDEX IF NOT EXISTS installations_expiring ON installations (expires_at);
CREATE INDEX IF NOT EXISTS installations_in_trouble ON installations (state, kind DESC, id)
    WHERE state IS NOT NULL;
CREATE INDEX IF NOT EXISTS installations_unlisted ON installations (unlisted_at)
    WHERE unlisted_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS sets_by_seal ON sets (seal);
