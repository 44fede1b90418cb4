-- name: explained
-- The plan alone; nothing is run.
EXPLAIN (FORMAT JSON) {query};
