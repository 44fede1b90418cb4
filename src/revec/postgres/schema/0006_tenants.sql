-- Tenants that somebody said something about, the order of their work, and a backfill's cursor in each.

-- A tenant without a row has these defaults: new ones appear by themselves.
CREATE TABLE revec.tenant (
    collection_id integer NOT NULL REFERENCES revec.collection,
    tenant        text NOT NULL CHECK (tenant <> ''),
    tier          text NOT NULL DEFAULT '',            -- a word of the operator's own
    priority      integer NOT NULL DEFAULT 0           -- the higher is backfilled first
                  CHECK (priority BETWEEN -1000000 AND 1000000),
    weight        integer NOT NULL DEFAULT 1           -- its share among equals
                  CHECK (weight BETWEEN 1 AND 1000000),
    paused_why    text,
    budget        numeric CHECK (budget >= 0),         -- US dollars; NULL: none
    spent         numeric NOT NULL DEFAULT 0 CHECK (spent >= 0),
    PRIMARY KEY (collection_id, tenant)
);
CREATE INDEX tenant_paused ON revec.tenant (collection_id, tenant) WHERE paused_why IS NOT NULL;

-- Where tiers, priorities and weights are read from, again and again.
ALTER TABLE revec.collection
    ADD tenants_query text,
    ADD tenants_at    timestamptz,  -- when a worker last set out to read them
    ADD tenants_fault text;         -- why it could not

-- Within the backfill lane the tenants of the highest priority come first. The priority is the one that
-- the tenant had when its page was enqueued; the other lanes know no priority.
ALTER TABLE revec.work ADD priority integer NOT NULL DEFAULT 0;
ALTER TABLE revec.work ADD rank integer NOT NULL
    GENERATED ALWAYS AS (CASE WHEN lane = 2 THEN -priority ELSE 0 END) STORED;
DROP INDEX revec.work_claim;
CREATE INDEX work_claim ON revec.work (index_id, lane, rank, tenant, doc_id);
-- Deletions are claimed also where the tenant is paused, whatever else waits there.
CREATE INDEX work_deletion ON revec.work (index_id, lane, tenant, doc_id) WHERE action = 'delete';

-- How far the backfill is in each tenant that had documents when it began.
CREATE TABLE revec.backfill (
    migration_id integer NOT NULL REFERENCES revec.migration,
    tenant       text NOT NULL,
    after_id     bigint NOT NULL DEFAULT 0,  -- the last document that was enqueued
    documents    bigint NOT NULL,            -- counted when the backfill began
    seen         bigint NOT NULL DEFAULT 0,
    done         boolean NOT NULL DEFAULT false,
    priority     integer NOT NULL,           -- the tenant's, and
    paused       boolean NOT NULL,           -- whether it is: kept by the trigger below
    served_at    timestamptz NOT NULL DEFAULT '-infinity',  -- who waited longest comes first
    PRIMARY KEY (migration_id, tenant)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX backfill_next ON revec.backfill (migration_id, paused, priority DESC, served_at, tenant)
    WHERE NOT done;

-- A backfill under way is enumerated once more, by tenant; what has its vectors is not paid for again.
ALTER TABLE revec.migration DROP cursor_tenant, DROP cursor_id, ADD enumerated boolean NOT NULL DEFAULT false;
UPDATE revec.migration SET seen = 0 WHERE state = 'backfilling' AND NOT cursor_done;

SELECT revec.protect('revec.tenant', 'private'), revec.protect('revec.backfill', 'private');

-- What a person says of a tenant counts from the next page on. The migration's row is locked first, as a
-- page locks it: no enumeration or page in flight can miss what is said meanwhile.
CREATE FUNCTION revec.tenant_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM revec.migration m
      WHERE m.collection_id = NEW.collection_id AND m.state NOT IN ('finished', 'aborted')
        FOR NO KEY UPDATE;
    UPDATE revec.backfill b SET priority = NEW.priority, paused = NEW.paused_why IS NOT NULL
      FROM revec.migration m
     WHERE m.collection_id = NEW.collection_id AND m.state NOT IN ('finished', 'aborted')
       AND b.migration_id = m.id AND b.tenant = NEW.tenant;
    RETURN NULL;
END $$;
CREATE TRIGGER said AFTER INSERT ON revec.tenant FOR EACH ROW
    WHEN (NEW.priority <> 0 OR NEW.paused_why IS NOT NULL) EXECUTE FUNCTION revec.tenant_changed();
CREATE TRIGGER said_again AFTER UPDATE ON revec.tenant FOR EACH ROW
    WHEN (NEW.priority <> OLD.priority OR (NEW.paused_why IS NULL) <> (OLD.paused_why IS NULL))
    EXECUTE FUNCTION revec.tenant_changed();
