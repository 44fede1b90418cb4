-- Reconcile: where each walk is and what it found, and what it saw of vectors. And how a write is answered.

-- One walk of the workers and one of a person, each a cursor: killed anywhere, it goes on there.
CREATE TABLE revec.walk (
    collection_id integer NOT NULL REFERENCES revec.collection,
    begun_by      text NOT NULL CHECK (begun_by IN ('workers', 'person')),
    source        text,                 -- this source and nothing else; NULL: everything
    part          integer[],            -- what is being looked at; NULL: not begun
    after         text,                 -- the last key or id there that was looked at
    looked        bigint NOT NULL DEFAULT 0,
    found         jsonb NOT NULL DEFAULT '{}',  -- by cause
    examples      jsonb NOT NULL DEFAULT '[]',
    notes         jsonb NOT NULL DEFAULT '[]',  -- what a person has to see to
    began_at      timestamptz,
    counted_from  timestamptz NOT NULL DEFAULT now(),  -- when the last one began: the next is due an interval later,
    took          float8 NOT NULL DEFAULT 0,           -- less the seconds that one took
    last          jsonb,                -- the report of the one that ended
    PRIMARY KEY (collection_id, begun_by)
);

-- What a walk saw of a document's vectors: another digest at the same rev means that somebody edited them. Whoever
-- enqueues a document takes its seal away: a model need not give the same bits again.
CREATE TABLE revec.seal (
    index_id   integer NOT NULL,
    doc_id     bigint NOT NULL,
    rev        bigint NOT NULL,
    digest     bytea NOT NULL,
    PRIMARY KEY (index_id, doc_id)
);

SELECT revec.protect('revec.walk', 'private'), revec.protect('revec.seal', 'private');

-- What a stamp is made of, said once: for the trigger, and for whoever looks whether it was by-passed.
CREATE FUNCTION revec.input_hash(title text, body text) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(convert_to(json_build_array(title, body)::text, 'UTF8'));

CREATE OR REPLACE FUNCTION revec.document_stamp() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.input_hash := revec.input_hash(NEW.title, NEW.body);
    IF TG_OP = 'INSERT' OR NEW.input_hash IS DISTINCT FROM OLD.input_hash THEN
        NEW.rev := nextval('revec.rev');
        NEW.changed_at := now();
    END IF;
    RETURN NEW;
END $$;

-- Whether whoever hands a document in is answered when it is kept, or when a search finds it.
ALTER TABLE revec.collection
    ADD write_mode text NOT NULL DEFAULT 'queued' CHECK (write_mode IN ('inline', 'queued'));
