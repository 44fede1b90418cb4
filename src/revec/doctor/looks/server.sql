-- What the server is.

-- name: old_server
SELECT current_setting('server_version') AS version, %(minimum)s / 10000 AS needed
 WHERE current_setting('server_version_num')::int < %(minimum)s;

-- name: old_pgvector
-- The way out is SQL alone where the server's packages are newer than the database.
SELECT coalesce(installed, 'not installed') AS version,
       CASE WHEN installed IS NULL THEN 'warning' WHEN has < ARRAY[0, 8] THEN 'critical' END AS severity,
       CASE WHEN installed IS NULL THEN 'CREATE EXTENSION vector, by a superuser or whoever may'
            WHEN string_to_array(available, '.')::int[] >= ARRAY[0, 8, 4] THEN 'ALTER EXTENSION vector UPDATE'
            ELSE 'install pgvector 0.8.4 or newer on the server, then ALTER EXTENSION vector UPDATE' END AS way_out,
       CASE WHEN installed IS NULL THEN 'this database has no extension `vector`'
            WHEN has < ARRAY[0, 8] THEN 'pgvector ' || installed || ' is too old: without halfvec or iterative scans a '
                 'search behind a filter finds too few, and Revec needs 0.8'
            ELSE 'pgvector ' || installed || ' can damage an HNSW index: 0.8.2 mended a buffer overflow, 0.8.3 and '
                 '0.8.4 what vacuum did to its graph' END AS so
  FROM (SELECT (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS installed,
               (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS available) AS v,
       LATERAL (SELECT string_to_array(regexp_replace(installed, '[^0-9.].*', ''), '.')::int[] AS has) AS parts
 WHERE installed IS NULL OR has < ARRAY[0, 8, 4];

-- name: see_pgvector
SELECT name, installed_version, default_version FROM pg_available_extensions WHERE name = 'vector';
