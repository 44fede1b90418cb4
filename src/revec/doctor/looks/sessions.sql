-- Who holds what back.

-- name: long_transactions
-- Vacuum removes nothing that these may still see. No text of a query is shown: it may hold what people wrote.
SELECT 'session ' || pid || ' of ' || coalesce(usename::text, 'nobody') || coalesce(' (' || nullif(application_name, '') || ')', '') AS who,
       state, extract(epoch FROM clock_timestamp() - xact_start)::int AS seconds,
       format('SELECT pg_terminate_backend(%%s)', pid) AS way_out
  FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
   AND xact_start < clock_timestamp() - make_interval(secs => %(long_transaction)s)
UNION ALL
SELECT 'prepared transaction ' || gid, 'prepared', extract(epoch FROM clock_timestamp() - prepared)::int,
       format('ROLLBACK PREPARED %%L', gid)
  FROM pg_prepared_xacts
 WHERE database = current_database() AND prepared < clock_timestamp() - make_interval(secs => %(long_transaction)s);

-- name: see_long_transactions
SELECT pid, usename, state, xact_start, backend_xmin FROM pg_stat_activity WHERE xact_start IS NOT NULL ORDER BY xact_start;

-- name: old_snapshot
-- The oldest that anything still sees, in transactions that began since.
SELECT who, age AS transactions, way_out
  FROM (SELECT 'session ' || pid AS who, greatest(age(backend_xmin), age(backend_xid)) AS age,
               format('SELECT pg_terminate_backend(%%s)', pid) AS way_out
          FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
        UNION ALL
        SELECT 'replication slot ' || slot_name, greatest(age(xmin), age(catalog_xmin)),
               format('SELECT pg_drop_replication_slot(%%L)', slot_name) FROM pg_replication_slots
        UNION ALL
        SELECT 'prepared transaction ' || gid, age(transaction), format('ROLLBACK PREPARED %%L', gid)
          FROM pg_prepared_xacts WHERE database = current_database()) AS held
 WHERE age > %(old_snapshot)s ORDER BY age DESC LIMIT 1;

-- name: abandoned_slots
-- The server keeps all that such a slot has not read.
SELECT slot_name AS slot, slot_type AS type, kept AS bytes, pg_size_pretty(kept) AS size
  FROM (SELECT slot_name::text, slot_type, restart_lsn,
               pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
                               restart_lsn)::int8 AS kept
          FROM pg_replication_slots WHERE NOT active AND restart_lsn IS NOT NULL) AS s
 WHERE kept >= %(slot_bytes)s;

-- name: session_locks
-- Behind a pooler in transaction mode such a lock stays with the server's session when its client is gone; that
-- session may be the one that asks, which takes none itself.
SELECT count(*) AS found, min(l.pid) AS pid
  FROM pg_locks l JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'advisory' AND l.granted AND (a.state = 'idle' OR l.pid = pg_backend_pid())
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database());

-- name: see_session_locks
SELECT l.pid, a.usename, a.state, l.classid, l.objid FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory';

-- name: pooled
-- Behind a pooler two sessions of a client may be one of the server, and one of it two.
SELECT pid, application_name, client_addr, client_port, backend_start FROM pg_stat_activity
 WHERE datname = current_database() ORDER BY backend_start;
