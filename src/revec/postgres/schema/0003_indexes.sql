-- Spaces, indexes, the route, and the work that keeps every index current.

CREATE TABLE revec.space (
    id         text PRIMARY KEY,  -- a hash of the recipe
    recipe     jsonb NOT NULL,
    checked_at timestamptz NOT NULL DEFAULT now()  -- whether the model is still the same
);

-- Fixed texts embedded when the space was first used: how a silently changed model is seen.
CREATE TABLE revec.sentinel (
    space_id text NOT NULL REFERENCES revec.space,
    number   integer NOT NULL,
    vector   halfvec NOT NULL,
    PRIMARY KEY (space_id, number)
);

CREATE TABLE revec.index (
    id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection_id integer NOT NULL REFERENCES revec.collection,
    space_id      text NOT NULL REFERENCES revec.space,
    query         jsonb NOT NULL,                  -- the query recipe
    kind          text NOT NULL CHECK (kind IN ('exact', 'hnsw')),
    writing       boolean NOT NULL DEFAULT true,   -- documents make work for it
    held          boolean NOT NULL DEFAULT false,  -- its work is not claimed: it is being built
    fault         text,                            -- why its model is not trusted
    created_at    timestamptz NOT NULL DEFAULT now(),
    dropped_at    timestamptz
);

-- Which index answers. One row, one compare-and-set.
CREATE TABLE revec.route (
    collection_id integer PRIMARY KEY REFERENCES revec.collection,
    epoch         bigint NOT NULL DEFAULT 0,
    serving       integer REFERENCES revec.index,
    previous      integer REFERENCES revec.index,
    changed_at    timestamptz NOT NULL DEFAULT now(),
    CHECK (serving IS DISTINCT FROM previous OR serving IS NULL)
);

-- One coalesced row per (index, document) that still needs a vector, or whose vectors must go.
-- No foreign key: a delete of a document must never wait for a build.
CREATE TABLE revec.work (
    index_id    integer NOT NULL,
    doc_id      bigint NOT NULL,
    rev         bigint NOT NULL,
    action      text NOT NULL CHECK (action IN ('embed', 'delete')),
    lane        smallint NOT NULL CHECK (lane IN (0, 1, 2)),  -- live, jit, backfill
    tenant      text NOT NULL,
    since       timestamptz NOT NULL DEFAULT now(),
    not_before  timestamptz NOT NULL DEFAULT '-infinity',
    lease_until timestamptz,
    token       uuid,
    attempts    integer NOT NULL DEFAULT 0,
    PRIMARY KEY (index_id, doc_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX work_claim ON revec.work (index_id, lane, tenant, doc_id);

-- Documents that an index leaves out, with the reason; valid for that content only.
CREATE TABLE revec.excluded (
    index_id   integer NOT NULL,
    doc_id     bigint NOT NULL,
    input_hash bytea NOT NULL,
    reason     text NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (index_id, doc_id)
);

-- Dead letters: work that failed for a reason of its own. No text is kept.
CREATE TABLE revec.dead (
    index_id   integer NOT NULL,
    doc_id     bigint NOT NULL,
    input_hash bytea NOT NULL,
    rev        bigint NOT NULL,
    tenant     text NOT NULL,
    cause      text NOT NULL,
    attempts   integer NOT NULL,
    first_at   timestamptz NOT NULL DEFAULT now(),
    last_at    timestamptz NOT NULL DEFAULT now(),
    retried_at timestamptz,  -- a person asked for another try, and it is under way
    PRIMARY KEY (index_id, doc_id)
);

-- How dead letters ended.
CREATE TABLE revec.dead_settled (
    index_id   integer NOT NULL,
    doc_id     bigint NOT NULL,
    tenant     text NOT NULL,
    cause      text NOT NULL,
    attempts   integer NOT NULL,
    first_at   timestamptz NOT NULL,
    last_at    timestamptz NOT NULL,
    resolution text NOT NULL CHECK (resolution IN (
        'retry_success', 'edited', 'manual', 'abandoned')),  -- abandoned: its document or index is gone
    reason     text,  -- of a person
    at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dead_settled_of ON revec.dead_settled (index_id, at);

-- One worker pays for a text at a time; a vector that could not be written waits here for a day.
CREATE UNLOGGED TABLE revec.paid (
    space_id    text NOT NULL,
    text_hash   bytea NOT NULL,
    lease_until timestamptz NOT NULL,
    token       uuid NOT NULL,
    vector      halfvec,
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (space_id, text_hash)
);

SELECT revec.protect('revec.space', 'shared'), revec.protect('revec.sentinel', 'private'),
       revec.protect('revec.index', 'shared'), revec.protect('revec.route', 'shared'),
       revec.protect('revec.work', 'private'), revec.protect('revec.excluded', 'private'),
       revec.protect('revec.dead', 'private'), revec.protect('revec.dead_settled', 'private'),
       revec.protect('revec.paid', 'private');

-- Every new content and every deletion becomes work for every index that is being written; `since`
-- stays the oldest wait, so that a document that is always being edited is late too. The
-- indexes are read after the barrier, by a fresh snapshot, so none that was registered is missed.
CREATE FUNCTION revec.document_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO revec.work AS w (index_id, doc_id, rev, action, lane, tenant)
        SELECT i.id, fresh.id, fresh.rev, 'embed', 0, fresh.tenant
          FROM fresh JOIN revec.index i ON i.collection_id = fresh.collection_id AND i.writing
         ORDER BY i.id, fresh.id;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO revec.work AS w (index_id, doc_id, rev, action, lane, tenant)
        SELECT i.id, fresh.id, fresh.rev, 'embed', 0, fresh.tenant
          FROM fresh JOIN stale ON stale.id = fresh.id AND stale.rev <> fresh.rev
               JOIN revec.index i ON i.collection_id = fresh.collection_id AND i.writing
         ORDER BY i.id, fresh.id
        ON CONFLICT (index_id, doc_id) DO UPDATE
           SET rev = excluded.rev, action = excluded.action, lane = 0,
               not_before = '-infinity', lease_until = NULL, token = NULL, attempts = 0;
    ELSE
        INSERT INTO revec.work AS w (index_id, doc_id, rev, action, lane, tenant)
        SELECT i.id, stale.id, nextval('revec.rev'), 'delete', 0, stale.tenant
          FROM stale JOIN revec.index i ON i.collection_id = stale.collection_id AND i.writing
         ORDER BY i.id, stale.id
        ON CONFLICT (index_id, doc_id) DO UPDATE
           SET rev = excluded.rev, action = excluded.action, lane = 0,
               not_before = '-infinity', lease_until = NULL, token = NULL, attempts = 0;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER inserted AFTER INSERT ON revec.document REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION revec.document_changed();
CREATE TRIGGER updated AFTER UPDATE ON revec.document
    REFERENCING OLD TABLE AS stale NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION revec.document_changed();
CREATE TRIGGER deleted AFTER DELETE ON revec.document REFERENCING OLD TABLE AS stale
    FOR EACH STATEMENT EXECUTE FUNCTION revec.document_changed();

CREATE FUNCTION revec.document_keep() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'revec.document is never truncated: delete its rows, so that the indexes hear of it';
END $$;
CREATE TRIGGER keep BEFORE TRUNCATE ON revec.document
    FOR EACH STATEMENT EXECUTE FUNCTION revec.document_keep();
