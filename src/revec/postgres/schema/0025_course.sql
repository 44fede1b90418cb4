-- The course of a backfill: whose documents come first, whose it takes at all for now, and where it stops.

ALTER TABLE revec.migration
    ADD priority text[] NOT NULL DEFAULT '{}',  -- tenants, or tiers of them: before all others, in this order
    ADD tenants  text[] NOT NULL DEFAULT '{}',  -- these alone for now; none: all
    ADD until    float8 CHECK (until > 0 AND until < 1);  -- a share of the documents, at which it pauses

-- A tenant's turn in a backfill: what is asked of this migration goes before what is said of the tenant. The
-- largest priority that a person can give a tenant is 1,000,000.
CREATE FUNCTION revec.backfill_turn(
    asked text[], named text[], of_tenant text, of_tier text, own_priority integer, paused_why text,
    OUT priority integer, OUT paused boolean)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(2000000 - array_position(asked, of_tenant), 2000000 - array_position(asked, nullif(of_tier, '')),
                    own_priority, 0),
           paused_why IS NOT NULL OR (cardinality(named) > 0 AND of_tenant <> ALL (named))
$$;

-- As before, and for a new tier too.
CREATE OR REPLACE FUNCTION revec.tenant_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM revec.migration m
      WHERE m.collection_id = NEW.collection_id AND m.state NOT IN ('finished', 'aborted')
        FOR NO KEY UPDATE;
    UPDATE revec.backfill b SET priority = turn.priority, paused = turn.paused
      FROM revec.migration m,
           revec.backfill_turn(m.priority, m.tenants, NEW.tenant, NEW.tier, NEW.priority, NEW.paused_why) AS turn
     WHERE m.collection_id = NEW.collection_id AND m.state NOT IN ('finished', 'aborted')
       AND b.migration_id = m.id AND b.tenant = NEW.tenant;
    RETURN NULL;
END $$;
DROP TRIGGER said ON revec.tenant;
DROP TRIGGER said_again ON revec.tenant;
CREATE TRIGGER said AFTER INSERT ON revec.tenant FOR EACH ROW
    WHEN (NEW.priority <> 0 OR NEW.tier <> '' OR NEW.paused_why IS NOT NULL) EXECUTE FUNCTION revec.tenant_changed();
CREATE TRIGGER said_again AFTER UPDATE ON revec.tenant FOR EACH ROW
    WHEN (NEW.priority <> OLD.priority OR NEW.tier <> OLD.tier
          OR (NEW.paused_why IS NULL) <> (OLD.paused_why IS NULL))
    EXECUTE FUNCTION revec.tenant_changed();
