-- What a key usually does: from where it comes, and which installations it reads.

CREATE TABLE sources (
    key      TEXT    NOT NULL,
    source   TEXT    NOT NULL,        -- an address, or unix
    first_at INTEGER NOT NULL,
    PRIMARY KEY (key, source)
) STRICT;
INSERT INTO sources SELECT id, used_from, used_at FROM keys WHERE used_from IS NOT NULL;

CREATE INDEX audit_by_key ON audit (key, kind, id, at);
