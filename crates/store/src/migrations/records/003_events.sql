-- What HighLevel told of, on its way to whoever acts on it. An event that was acted on stays for a week,
-- without its body, so that it is known when it comes again.

CREATE TABLE events (
    event       TEXT PRIMARY KEY,     -- HighLevel's webhookId, or a digest of the body
    kind        TEXT    NOT NULL,     -- HighLevel's type
    body        TEXT,                 -- word for word, until it was acted on
    received_at INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,     -- also the end of a lease
    done_at     INTEGER,
    outcome     TEXT                  -- what came of it, or why nothing has yet
) STRICT;
CREATE INDEX events_due ON events (due_at) WHERE done_at IS NULL;
CREATE INDEX events_done ON events (received_at) WHERE done_at IS NOT NULL;
