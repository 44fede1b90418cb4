-- Columns of the users' own tables as indexes, and who writes them (docs/adopt.md).

-- Who brings vectors into an index at this moment. Only for `revec` do documents make work.
ALTER TABLE revec.index ADD writer text NOT NULL DEFAULT 'revec' CHECK (writer IN ('revec', 'app', 'nobody'));

-- An index whose vectors are a column of a user's table. Its ledger (revec.ledger_N) says of which text each
-- vector is; a view of the index's name (revec.vectors_N) reads both as if they were a table of ours.
CREATE TABLE revec.adopted (
    index_id     integer PRIMARY KEY REFERENCES revec.index,
    source_id    integer NOT NULL REFERENCES revec.source,
    path         text[] NOT NULL,  -- schema and table
    key          text[] NOT NULL,  -- its columns that are a document's key, in their order
    key_types    text[] NOT NULL,
    vector       text NOT NULL,    -- the column
    type         text NOT NULL CHECK (type IN ('vector', 'halfvec')),
    operator     text,             -- by which a graph of the user's own is walked; NULL: there is none of use
    writer       text NOT NULL CHECK (writer IN ('revec', 'app', 'nobody')),  -- as chosen
    sampled      integer NOT NULL DEFAULT 0,  -- rows that were embedded again when it was adopted
    alike        integer NOT NULL DEFAULT 0,  -- of them, with the vector that the column has
    unverifiable text              -- why the model could not be asked
);

SELECT revec.protect('revec.adopted', 'shared');

-- As before; but where somebody else writes an index there is nothing to do for it, and what its ledger
-- says of a document that is gone goes with it. A column holds its own source's rows: the key of another
-- source's document may be that of one of them.
CREATE OR REPLACE FUNCTION revec.document_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    others integer;
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO revec.work AS w (index_id, doc_id, rev, action, lane, tenant)
        SELECT i.id, fresh.id, fresh.rev, 'embed', 0, fresh.tenant
          FROM fresh JOIN revec.index i ON i.collection_id = fresh.collection_id AND i.writing
                                       AND i.writer = 'revec'
               LEFT JOIN revec.adopted a ON a.index_id = i.id
         WHERE a.index_id IS NULL OR a.source_id = fresh.source_id
         ORDER BY i.id, fresh.id;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO revec.work AS w (index_id, doc_id, rev, action, lane, tenant)
        SELECT i.id, fresh.id, fresh.rev, 'embed', 0, fresh.tenant
          FROM fresh JOIN stale ON stale.id = fresh.id AND stale.rev <> fresh.rev
               JOIN revec.index i ON i.collection_id = fresh.collection_id AND i.writing
                                 AND i.writer = 'revec'
               LEFT JOIN revec.adopted a ON a.index_id = i.id
         WHERE a.index_id IS NULL OR a.source_id = fresh.source_id
         ORDER BY i.id, fresh.id
        ON CONFLICT (index_id, doc_id) DO UPDATE
           SET rev = excluded.rev, action = excluded.action, lane = 0,
               not_before = '-infinity', lease_until = NULL, token = NULL, attempts = 0;
    ELSE
        INSERT INTO revec.work AS w (index_id, doc_id, rev, action, lane, tenant)
        SELECT i.id, stale.id, nextval('revec.rev'), 'delete', 0, stale.tenant
          FROM stale JOIN revec.index i ON i.collection_id = stale.collection_id AND i.writing
                                       AND i.writer = 'revec'
               LEFT JOIN revec.adopted a ON a.index_id = i.id
         WHERE a.index_id IS NULL OR a.source_id = stale.source_id
         ORDER BY i.id, stale.id
        ON CONFLICT (index_id, doc_id) DO UPDATE
           SET rev = excluded.rev, action = excluded.action, lane = 0,
               not_before = '-infinity', lease_until = NULL, token = NULL, attempts = 0;
        FOR others IN
            SELECT DISTINCT i.id
              FROM stale JOIN revec.index i ON i.collection_id = stale.collection_id AND i.writing
                                           AND i.writer <> 'revec'
        LOOP
            EXECUTE format('DELETE FROM revec.ledger_%s l USING stale WHERE l.doc_id = stale.id', others);
        END LOOP;
    END IF;
    RETURN NULL;
END $$;
