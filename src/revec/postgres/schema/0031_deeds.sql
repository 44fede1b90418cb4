-- What people do to dead letters, a group at once: who, when, which; and what it takes to undo it.

-- A cause without what differs from document to document: quoted words, and words with a digit in them
-- (numbers, ids, hashes). Causes of one pattern are one trouble.
CREATE FUNCTION revec.pattern(cause text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT left(btrim(regexp_replace(regexp_replace(regexp_replace(left(cause, 2000),
                    '(?<!\w)''[^'']*''(?!\w)|"[^"]*"|`[^`]*`', '…', 'g'),
                '[\w-]*\d([\w,.-]*\w)?', '#', 'g'),
            '\s+', ' ', 'g')), 200)
$$;

ALTER TABLE revec.dead
    ADD pattern text GENERATED ALWAYS AS (revec.pattern(cause)) STORED,
    ADD deed bigint;  -- which one asked for another try
CREATE INDEX dead_pattern ON revec.dead (index_id, pattern, doc_id) WHERE retried_at IS NULL;
CREATE INDEX dead_deed ON revec.dead (deed) WHERE deed IS NOT NULL;

-- What a letter was, for as long as its deed can be undone.
ALTER TABLE revec.dead_settled
    ADD deed bigint,
    ADD input_hash bytea,
    ADD rev bigint;
CREATE INDEX dead_settled_deed ON revec.dead_settled (deed) WHERE deed IS NOT NULL;

CREATE TABLE revec.deed (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection_id integer NOT NULL REFERENCES revec.collection,
    at            timestamptz NOT NULL DEFAULT now(),
    who           text NOT NULL,
    what          text NOT NULL CHECK (what IN ('retry', 'discard')),
    which         jsonb NOT NULL,               -- words of the cause, its pattern, keys; what is not said is not there
    reason        text NOT NULL DEFAULT '',
    letters       integer NOT NULL DEFAULT 0,
    undone_at     timestamptz,
    undone_by     text,
    returned      integer                       -- of the letters, those that nothing had touched since
);
CREATE INDEX deed_of ON revec.deed (collection_id, id);

SELECT revec.protect('revec.deed', 'private');
