-- name: read_only
-- Whatever a look asks for, nothing is written.
SET TRANSACTION READ ONLY;

-- name: limits
-- For this transaction alone, so a pooler keeps nothing. One process, without the compiler: a guest takes little.
SELECT set_config('statement_timeout', %(statement)s, true) AS statement,
       set_config('lock_timeout', %(lock)s, true) AS lock,
       set_config('idle_in_transaction_session_timeout', %(idle)s, true) AS idle,
       set_config('max_parallel_workers_per_gather', '0', true) AS alone,
       set_config('jit', 'off', true) AS jit;

-- name: types
-- Of the extension first: a function of somebody else's that has its name is not called.
SELECT set_config('search_path', 'pg_catalog, ' || quote_ident(coalesce(
           (SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
             WHERE e.extname = 'vector'), 'public')), true) AS path;
