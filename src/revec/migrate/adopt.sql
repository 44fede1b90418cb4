-- name: lock_timeout
SELECT set_config('lock_timeout', '2s', true);

-- name: lock_source
-- Before the barrier: whoever projects it takes them in this order.
SELECT id FROM revec.source WHERE id = %(source)s FOR NO KEY UPDATE;

-- name: sources
SELECT count(*) AS sources FROM revec.source WHERE collection_id = %(collection)s;
