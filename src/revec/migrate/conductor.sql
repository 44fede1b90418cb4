-- name: lock_timeout
SELECT set_config('lock_timeout', '2s', true);

-- name: builders
-- Our own builds of this table, to be cancelled before it is dropped.
SELECT pg_cancel_backend(pid) FROM pg_stat_progress_create_index
 WHERE relid = to_regclass(%(vectors)s) AND datname = current_database();
