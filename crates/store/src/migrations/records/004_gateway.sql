-- What a key may send through the gateway, a line each, and in which lane its requests wait.

ALTER TABLE keys ADD COLUMN lane TEXT NOT NULL DEFAULT 'interactive';
ALTER TABLE keys ADD COLUMN allowed TEXT NOT NULL DEFAULT '';
