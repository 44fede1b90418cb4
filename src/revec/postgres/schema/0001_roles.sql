-- Who may do what. The schema's owner (the login that applied it) writes documents and does DDL;
-- `revec_worker` may touch every row of ours; `revec_reader` only the rows of the tenant that its
-- transaction names. Roles are taken by SET LOCAL ROLE in each transaction, so a pooler keeps none.

CREATE SCHEMA IF NOT EXISTS revec;
-- Not in "$user": that is another schema as soon as a transaction takes a role.
CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;

CREATE TABLE revec.installation (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    two_layers boolean NOT NULL  -- false: roles could not be made, the query is the only fence
);

DO $$
DECLARE
    role_name text;
    usable boolean := true;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['revec_worker', 'revec_reader'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            END IF;
        EXCEPTION
            WHEN insufficient_privilege THEN usable := false;
            WHEN duplicate_object OR unique_violation THEN NULL;  -- another installation was faster
        END;
        BEGIN
            EXECUTE format('GRANT %I TO %I', role_name, current_user);
        EXCEPTION
            WHEN insufficient_privilege OR undefined_object THEN
                usable := usable AND EXISTS (SELECT FROM pg_roles WHERE rolname = role_name)
                          AND pg_has_role(current_user, role_name, 'MEMBER');
        END;
        IF usable THEN
            EXECUTE format('GRANT USAGE ON SCHEMA revec TO %I', role_name);
            BEGIN  -- where the extension lives; open to all by default
                EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I',
                    (SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'vector'),
                    role_name);
            EXCEPTION
                WHEN insufficient_privilege THEN NULL;
            END;
        END IF;
    END LOOP;
    INSERT INTO revec.installation (two_layers) VALUES (usable);
END $$;

-- Row security for a table of ours. `scope`: 'tenant' (readers see their tenant's rows), 'shared'
-- (readers see all: names and recipes, no content) or 'private' (readers see none).
CREATE FUNCTION revec.protect(target regclass, scope text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', target);
    EXECUTE format('CREATE POLICY owner ON %s TO %I USING (true) WITH CHECK (true)',
                   target, current_user);
    IF NOT (SELECT two_layers FROM revec.installation) THEN
        RETURN;
    END IF;
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO revec_worker', target);
    EXECUTE format('CREATE POLICY worker ON %s TO revec_worker USING (true) WITH CHECK (true)',
                   target);
    IF scope = 'private' THEN
        RETURN;
    END IF;
    EXECUTE format('GRANT SELECT ON %s TO revec_reader', target);
    EXECUTE format('CREATE POLICY reader ON %s FOR SELECT TO revec_reader USING (%s)', target,
                   CASE scope WHEN 'shared' THEN 'true'
                   ELSE $policy$tenant = (SELECT current_setting('revec.tenant', true))$policy$ END);
END $$;

SELECT revec.protect('revec.installation', 'shared');
