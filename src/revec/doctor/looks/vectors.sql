-- Of a sample of a column's vectors. `found` is how many of the `n` have the fault.

-- name: zero_vectors
-- Of length 0, or of no length at all. The inner product is there for both types.
SELECT count(*) AS n, count(*) FILTER (WHERE inner_product(v, v) IN (0, 'NaN')) AS found
  FROM (SELECT {column} AS v FROM {table} {sample} WHERE {column} IS NOT NULL LIMIT 2 * %(sample)s) AS seen;

-- name: all_zero_vectors
SELECT * FROM {table} WHERE {column} IS NOT NULL AND inner_product({column}, {column}) IN (0, 'NaN') LIMIT 20;

-- name: unnormalised_vectors
-- Where some have length 1 and others have not, or where the inner product is searched by, it changes the
-- order; where none has, cosine does not mind.
SELECT n, found, n - found AS of_length_1, round(least::numeric, 3)::float8 AS shortest,
       round(most::numeric, 3)::float8 AS longest,
       CASE WHEN found < n OR by_product THEN 'warning' ELSE 'note' END AS severity,
       CASE WHEN found < n THEN 'some of length 1 and some not are likely of two models, or of two ways to write them'
            WHEN by_product THEN 'its index searches by the inner product, which prefers the long ones'
            ELSE 'cosine does not mind, the inner product would' END AS so
  FROM (SELECT count(*) AS n, count(*) FILTER (WHERE abs(sqrt(square) - 1) > 0.01) AS found,
               sqrt(min(square)) AS least, sqrt(max(square)) AS most
          FROM (SELECT inner_product(v, v) AS square
                  FROM (SELECT {column} AS v FROM {table} {sample} WHERE {column} IS NOT NULL
                         LIMIT 2 * %(sample)s) AS seen) AS squares
         WHERE square > 0 AND square < 'Infinity') AS lengths,
       (SELECT EXISTS (SELECT FROM pg_index x JOIN pg_opclass k ON k.oid = x.indclass[0]
                        WHERE x.indrelid = %(oid)s AND k.opcname ~ '_ip_ops$') AS by_product) AS graph;

-- name: all_unnormalised_vectors
SELECT round(sqrt(inner_product({column}, {column}))::numeric, 2) AS length, count(*)
  FROM {table} WHERE {column} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC LIMIT 20;

-- name: mixed_dims
-- Only a column without dims of its own can hold several.
SELECT coalesce(sum(n), 0)::int8 AS n, coalesce(sum(n) - max(n), 0)::int8 AS found,
       jsonb_object_agg(dims, n) AS by_dims
  FROM (SELECT vector_dims(v) AS dims, count(*) AS n
          FROM (SELECT {column} AS v FROM {table} {sample} WHERE {column} IS NOT NULL
                 LIMIT 2 * %(sample)s) AS seen
         GROUP BY 1) AS counted;

-- name: all_mixed_dims
SELECT vector_dims({column}) AS dims, count(*) FROM {table} WHERE {column} IS NOT NULL GROUP BY 1;

-- name: mixed_models
-- By the table's own column that names the model.
SELECT coalesce(sum(n), 0)::int8 AS n, coalesce(sum(n) - max(n), 0)::int8 AS found,
       jsonb_object_agg(model, n) AS by_model
  FROM (SELECT coalesce(model, 'none named') AS model, count(*) AS n
          FROM (SELECT {model}::text AS model FROM {table} {sample} WHERE {column} IS NOT NULL
                 LIMIT 2 * %(sample)s) AS seen
         GROUP BY 1 ORDER BY 2 DESC LIMIT 20) AS counted;

-- name: all_mixed_models
SELECT {model}, count(*) FROM {table} WHERE {column} IS NOT NULL GROUP BY 1;

-- name: unequal_vectors
-- One text has one vector in one space. NaN, of a vector without a length, is another look's.
SELECT count(*) AS n, count(*) FILTER (WHERE distance BETWEEN 0.01 AND 3) AS found
  FROM (SELECT v <=> first_value(v) OVER (PARTITION BY md5(body), vector_dims(v) ORDER BY v) AS distance
          FROM (SELECT {text} AS body, {column} AS v FROM {table} {sample}
                 WHERE {column} IS NOT NULL AND {text} ~ '[^[:space:]]' LIMIT 2 * %(sample)s) AS seen) AS pairs;

-- name: all_unequal_vectors
SELECT md5({text}) AS text, count(*) AS rows, count(DISTINCT {column}) AS vectors
  FROM {table} WHERE {column} IS NOT NULL GROUP BY 1 HAVING count(DISTINCT {column}) > 1 LIMIT 20;

-- name: duplicate_vectors
-- Different texts with the very same vector. A few may be right (case, blanks); one in a hundred, or five of
-- one vector, is what a fallback or a bug writes. Equal texts have equal vectors, as they should.
SELECT n, CASE WHEN same > 0.01 * n OR most >= 5 THEN same ELSE 0 END AS found, most AS of_one_vector
  FROM (SELECT coalesce(sum(rows), 0)::int8 AS n, coalesce(sum(rows) FILTER (WHERE texts <> 1 AND rows > 1), 0)::int8 AS same,
               coalesce(max(rows) FILTER (WHERE texts <> 1 AND rows > 1), 0) AS most
          FROM (SELECT count(*) AS rows, count(DISTINCT md5(body)) AS texts
                  FROM (SELECT {text} AS body, {column} AS v FROM {table} {sample}
                         WHERE {column} IS NOT NULL AND inner_product({column}, {column}) > 0
                         LIMIT 2 * %(sample)s) AS seen
                 GROUP BY v) AS groups) AS counted;

-- name: all_duplicate_vectors
SELECT md5({column}::text) AS vector, count(*) FROM {table}
 WHERE {column} IS NOT NULL GROUP BY {column} HAVING count(*) > 1 ORDER BY 2 DESC LIMIT 20;
