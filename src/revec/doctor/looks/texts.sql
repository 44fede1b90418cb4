-- Texts beside their vectors, in a sample of rows.

-- name: missing_texts
SELECT count(*) AS n, count(*) FILTER (WHERE body IS NULL OR body !~ '[^[:space:]]') AS found, %(text)s::text AS text
  FROM (SELECT {text} AS body FROM {table} {sample} WHERE {column} IS NOT NULL AND {live}
         LIMIT 2 * %(sample)s) AS seen;

-- name: all_missing_texts
SELECT * FROM {table} WHERE {column} IS NOT NULL AND coalesce({text}, '') !~ '[^[:space:]]' AND {live} LIMIT 20;

-- name: rows_without_vectors
SELECT count(*) AS n, count(*) FILTER (WHERE lacks) AS found, round(100.0 * avg(lacks::int), 1)::float8 AS percent
  FROM (SELECT {column} IS NULL AS lacks FROM {table} {sample} WHERE {text} ~ '[^[:space:]]' AND {live}
         LIMIT 2 * %(sample)s) AS seen;

-- name: all_rows_without_vectors
SELECT count(*) FROM {table} WHERE {column} IS NULL AND {text} ~ '[^[:space:]]' AND {live};
