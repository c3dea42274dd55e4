-- Who is signed in to the dashboard.

CREATE TABLE sessions (
    cookie   BLOB PRIMARY KEY,        -- SHA-256
    key      TEXT,                    -- null: begun with a link from the terminal
    began_at INTEGER NOT NULL,
    used_at  INTEGER NOT NULL
) STRICT;

-- Who does not work stands first on the dashboard.
CREATE INDEX standings_in_trouble ON standings (since) WHERE health <> 'operational';
