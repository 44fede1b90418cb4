-- name: extension
CREATE EXTENSION IF NOT EXISTS vector;

-- name: create
-- A table that is filled and searched, and knows nothing of documents.
CREATE TABLE IF NOT EXISTS {points} (
    id        uuid PRIMARY KEY,
    tenant    text NOT NULL,
    embedding halfvec({dims}) NOT NULL
);

-- name: inline
-- Beside its row, never in TOAST.
ALTER TABLE {points} ALTER COLUMN embedding SET STORAGE PLAIN;

-- name: by_tenant
CREATE INDEX IF NOT EXISTS {name} ON {points} (tenant);

-- name: graph
CREATE INDEX IF NOT EXISTS {name} ON {points} USING hnsw (embedding halfvec_cosine_ops);

-- name: drop
DROP TABLE IF EXISTS {points};

-- name: put
INSERT INTO {points} (id, tenant, embedding)
SELECT * FROM unnest(%(ids)s::uuid[], %(tenants)s::text[], %(vectors)b::halfvec[])
ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, embedding = excluded.embedding;

-- name: delete
DELETE FROM {points} WHERE id = ANY (%(ids)s::uuid[]);

-- name: fetch
SELECT id, embedding FROM {points} WHERE id = ANY (%(ids)s::uuid[]);

-- name: settings
-- The walk through the graph goes on until enough of the tenant's are found; planned for this tenant.
SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true) AS scan,
       set_config('hnsw.ef_search', least(1000, greatest(400, %(limit)s))::text, true) AS ef,
       set_config('hnsw.max_scan_tuples', '2147483647', true) AS most,
       set_config('plan_cache_mode', 'force_custom_plan', true) AS plan;

-- name: nearest
SELECT id, 1 - (embedding <=> %(query)b) AS score FROM {points}
 WHERE (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
 ORDER BY embedding <=> %(query)b LIMIT %(limit)s;

-- name: page
SELECT id FROM {points} WHERE %(after)s = '' OR id > nullif(%(after)s, '')::uuid ORDER BY id LIMIT %(limit)s;

-- name: count
SELECT count(*) AS points FROM {points};

-- name: facts
SELECT current_setting('server_version_num')::int / 10000 AS server,
       (SELECT coalesce(max(installed_version), max(default_version)) FROM pg_available_extensions
         WHERE name = 'vector') AS vector;
