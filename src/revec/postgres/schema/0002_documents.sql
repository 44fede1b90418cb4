-- Collections, their sources, their documents, and what changed in the users' tables.

CREATE TABLE revec.collection (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE CHECK (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE revec.source (
    id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection_id integer NOT NULL REFERENCES revec.collection,
    name          text NOT NULL,     -- 'push', or the table as revec.toml names it
    mapping       jsonb,             -- a table's key, title, body, tenant, filter, metadata
    trigger_of    regclass,          -- the table that carries our triggers
    scan          text CHECK (scan IN ('rows', 'documents')),  -- a full pass under way: its half
    scan_after    text,              -- the last key that the pass has dealt with
    fault         text,              -- why its rows cannot be read; a person mends it
    UNIQUE (collection_id, name)
);

-- One sequence for all documents: a re-inserted key never meets an old revision again.
CREATE SEQUENCE revec.rev;

CREATE TABLE revec.document (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- never used twice
    collection_id integer NOT NULL,
    source_id     integer NOT NULL,
    key           text NOT NULL,
    tenant        text NOT NULL DEFAULT 'default' CHECK (tenant <> ''),
    title         text NOT NULL DEFAULT '',
    body          text NOT NULL DEFAULT '',
    metadata      jsonb NOT NULL DEFAULT '{}',
    input_hash    bytea NOT NULL,  -- of all that any template reads; set by the trigger below
    rev           bigint NOT NULL, -- drawn anew when input_hash changes
    changed_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source_id, key)
);
CREATE INDEX document_cursor ON revec.document (collection_id, tenant, id);

-- What the triggers on the users' tables append. No unique key, no row security, nothing computed:
-- it can neither deadlock with nor fail the user's write. Both keys NULL: the table was truncated.
CREATE TABLE revec.change (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id integer NOT NULL,
    old_key   text,
    new_key   text,
    at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX change_source ON revec.change (source_id, id);
ALTER TABLE revec.change SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

SELECT revec.protect('revec.collection', 'shared'), revec.protect('revec.source', 'shared'),
       revec.protect('revec.document', 'tenant');

-- The barrier's shared side: registering an index waits for the document writers in flight.
CREATE FUNCTION revec.document_barrier() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'revec.document is written in READ COMMITTED transactions only (this one is %)',
            current_setting('transaction_isolation')
            USING HINT = 'An older snapshot could miss an index that was registered meanwhile.';
    END IF;
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('revec.document', 0));
    RETURN NULL;
END $$;
CREATE TRIGGER barrier BEFORE INSERT OR UPDATE OR DELETE ON revec.document
    FOR EACH STATEMENT EXECUTE FUNCTION revec.document_barrier();

CREATE FUNCTION revec.document_stamp() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.input_hash := sha256(convert_to(json_build_array(NEW.title, NEW.body)::text, 'UTF8'));
    IF TG_OP = 'INSERT' OR NEW.input_hash IS DISTINCT FROM OLD.input_hash THEN
        NEW.rev := nextval('revec.rev');
        NEW.changed_at := now();
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON revec.document
    FOR EACH ROW EXECUTE FUNCTION revec.document_stamp();
