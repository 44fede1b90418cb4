-- name: others
-- End every other session of this database, and wait for it.
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid();

-- name: schemas
SELECT quote_ident(nspname) AS name FROM pg_namespace
 WHERE nspname !~ '^pg_' AND nspname <> 'information_schema';

-- name: tables
-- All that hold rows of ours or of a user's, but for partitions.
SELECT oid::regclass::text AS name, pg_relation_size(oid) > 0 AS grown FROM pg_class
 WHERE relkind IN ('r', 'p', 'v', 'm') AND NOT relispartition AND oid >= 16384
   AND relnamespace NOT IN ('pg_toast'::regnamespace, 'information_schema'::regnamespace);

-- name: sequences
SELECT seqrelid::regclass::text AS name, coalesce(last_value, start_value) AS value, last_value IS NOT NULL AS called
  FROM pg_sequences JOIN pg_sequence
    ON seqrelid = format('%%I.%%I', schemaname, sequencename)::regclass;

-- name: set_back
SELECT setval(%(name)s::regclass, %(value)s, %(called)s);

-- name: quietly
-- No triggers, no foreign keys, and catalogs may be written: for this session, which is the last one.
SELECT set_config('session_replication_role', 'replica', false) AS role,
       set_config('allow_system_table_mods', 'on', false) AS mods;

-- name: drop_schema
DROP SCHEMA {name} CASCADE;

-- name: drop_table
DROP TABLE {name} CASCADE;

-- name: take
COPY {table} TO STDOUT (FORMAT binary);

-- name: empty
DELETE FROM {table};

-- name: give
COPY {table} FROM STDIN (FORMAT binary);

-- name: shrink
VACUUM (TRUNCATE) {tables};

-- name: unlearn
DELETE FROM pg_statistic WHERE starelid >= 16384;

-- name: recount
SELECT pg_stat_reset();

-- name: forget
-- What is known of sizes, as of tables that were never looked at.
UPDATE pg_class SET relpages = 0, reltuples = -1, relallvisible = 0
 WHERE relkind IN ('r', 'i', 't') AND oid >= 16384 AND reltuples <> -1;

-- name: size
SELECT pg_database_size(current_database()) AS bytes;

-- name: fingerprint
-- All that is neither rows nor numbers.
SELECT md5(string_agg(line, '|' ORDER BY line)) AS fingerprint FROM (
    SELECT format('%s %s', nspname, nspacl) FROM pg_namespace WHERE nspname !~ '^pg_(temp|toast)'
    UNION ALL SELECT format('%s %s', extname, extversion) FROM pg_extension
    UNION ALL SELECT format('%s %s %s %s', oid::regprocedure, md5(prosrc), proacl, proconfig)
                FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT format('%s %s %s %s %s %s %s', oid::regclass, relkind, relowner::regrole, relacl,
                            reloptions, relrowsecurity, relforcerowsecurity)
                FROM pg_class WHERE oid >= 16384 AND relnamespace <> 'pg_toast'::regnamespace
    UNION ALL SELECT format('%s %s', indexrelid::regclass, indisvalid) FROM pg_index WHERE indexrelid >= 16384
    UNION ALL SELECT format('%s %s', pg_get_triggerdef(oid), tgenabled) FROM pg_trigger
               WHERE oid >= 16384 AND NOT tgisinternal
    UNION ALL SELECT format('%s %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
               WHERE oid >= 16384
    UNION ALL SELECT format('%s %s %s %s %s', attrelid::regclass, attname, atttypid::regtype, attnotnull,
                            attstorage)
                FROM pg_attribute WHERE attrelid >= 16384 AND attnum > 0
                 AND attrelid NOT IN (SELECT oid FROM pg_class WHERE relnamespace = 'pg_toast'::regnamespace)
    UNION ALL SELECT format('%s %s', adrelid::regclass, pg_get_expr(adbin, adrelid)) FROM pg_attrdef
    UNION ALL SELECT format('%s %s %s %s', polname, polrelid::regclass, pg_get_expr(polqual, polrelid),
                            pg_get_expr(polwithcheck, polrelid)) FROM pg_policy
    UNION ALL SELECT format('%s %s', setrole, setconfig) FROM pg_db_role_setting
               WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL SELECT format('%s %s', evtname, evtenabled) FROM pg_event_trigger
    UNION ALL SELECT pubname::text FROM pg_publication
) AS all_of_it (line);
