-- A database may take from PUBLIC, by its default privileges, the right to call what is made in it. Our roles
-- call our functions and the extension's, those of later files too.
DO $$
DECLARE
    of_vector regprocedure;
BEGIN
    IF NOT (SELECT two_layers FROM revec.installation) THEN
        RETURN;
    END IF;
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA revec TO revec_worker, revec_reader;
    ALTER DEFAULT PRIVILEGES IN SCHEMA revec GRANT EXECUTE ON FUNCTIONS TO revec_worker, revec_reader;
    FOR of_vector IN
        SELECT d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
         WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
           AND e.extname = 'vector' AND NOT has_function_privilege('revec_reader', d.objid, 'EXECUTE')
    LOOP
        BEGIN
            EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO revec_worker, revec_reader', of_vector);
        EXCEPTION
            WHEN insufficient_privilege THEN NULL;  -- somebody else's extension: he has to
        END;
    END LOOP;
END $$;
