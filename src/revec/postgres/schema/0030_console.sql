-- Who is logged in at the console, and what its forms are signed with.

-- A session stands on a key: it ends with it, at once. Only the hash of the cookie's 256 random bits is kept,
-- as of a key (0009).
CREATE TABLE revec.console_session (
    hash     bytea PRIMARY KEY CHECK (length(hash) = 32),
    key      text NOT NULL REFERENCES revec.api_key ON DELETE CASCADE,  -- by its prefix
    began_at timestamptz NOT NULL DEFAULT now(),
    until    timestamptz NOT NULL
);
CREATE INDEX console_session_until ON revec.console_session (until);

-- One for all servers on this database: a form that one of them showed may come back to another. Two random
-- UUIDs have 244 random bits.
CREATE TABLE revec.console_secret (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    secret bytea NOT NULL DEFAULT sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'))
);
INSERT INTO revec.console_secret DEFAULT VALUES;

SELECT revec.protect('revec.console_session', 'private');
SELECT revec.protect('revec.console_secret', 'private');
