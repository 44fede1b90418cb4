-- name: exists
-- NULL before the first file. Read from the catalog: to_regclass may answer from a cache that has not
-- heard of what another session committed while we waited for the lock.
SELECT (SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'revec' AND c.relname = 'schema_file') AS ledger;

-- name: applied
SELECT name, checksum FROM revec.schema_file ORDER BY name;

-- name: lock
-- One at a time; ends with the transaction, so a pooler keeps nothing.
SELECT pg_advisory_xact_lock(hashtextextended('revec.schema', 0));

-- name: lock_timeout
-- Whoever waits for a table has everybody else wait behind him.
SELECT set_config('lock_timeout', '5s', true);

-- name: ledger_schema
CREATE SCHEMA IF NOT EXISTS revec;

-- name: ledger
-- No row security: the schema's own ledger, read before roles exist.
CREATE TABLE IF NOT EXISTS revec.schema_file (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: record
INSERT INTO revec.schema_file (name, checksum) VALUES (%(name)s, %(checksum)s);
