-- Who is signed in to the dashboard.

CREATE TABLE @.sessions (
    cookie   bytea PRIMARY KEY,                 -- SHA-256
    key      text COLLATE "C",                  -- null: begun with a link from the terminal
    began_at bigint NOT NULL,
    used_at  bigint NOT NULL
);

-- Who does not work stands first on the dashboard.
CREATE INDEX standings_in_trouble ON @.standings (since) WHERE health <> 'operational';
