-- Keys that may ask over HTTP.

-- A key is 256 random bits behind a prefix, and only its SHA-256 is kept. A slow, salted hash is for secrets
-- that people think up: nobody guesses 256 random bits, and this one is looked up in each request.
CREATE TABLE revec.api_key (
    prefix        text PRIMARY KEY,         -- not secret: what people and logs call it by
    hash          bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    role          text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    tenant        text CHECK (tenant <> ''),                   -- NULL: all tenants
    collection_id integer REFERENCES revec.collection,         -- NULL: all collections
    created_by    text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz,
    revoked_at    timestamptz,
    -- Searching is of one tenant, writing is of all: a document's id is taken in every tenant.
    CHECK (CASE role WHEN 'viewer' THEN tenant IS NOT NULL WHEN 'admin' THEN tenant IS NULL ELSE true END)
);

SELECT revec.protect('revec.api_key', 'private');
