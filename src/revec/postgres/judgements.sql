-- name: make
-- The set, made or found; and held, so that two writers of one set come one after the other.
INSERT INTO revec.judged_set (collection_id, name) VALUES (%(collection)s, %(name)s)
ON CONFLICT (collection_id, name) DO UPDATE SET changed_at = clock_timestamp()
RETURNING id;

-- name: put_queries
INSERT INTO revec.judged_query AS q (set_id, name, words, tenant, segment)
SELECT %(set)s, n.name, n.words, n.tenant, n.segment
  FROM unnest(%(names)s::text[], %(words)s::text[], %(tenants)s::text[], %(segments)s::text[])
       AS n (name, words, tenant, segment)
ON CONFLICT (set_id, name) DO UPDATE
   SET words = excluded.words, tenant = excluded.tenant, segment = excluded.segment;

-- name: put_judgements
INSERT INTO revec.judgement AS j (query_id, source, key, grade, origin, who)
SELECT q.id, n.source, n.key, n.grade, %(origin)s, %(who)s
  FROM unnest(%(names)s::text[], %(sources)s::text[], %(keys)s::text[], %(grades)s::int[])
       AS n (name, source, key, grade)
       JOIN revec.judged_query q ON q.set_id = %(set)s AND q.name = n.name
ON CONFLICT (query_id, source, key) DO UPDATE
   SET grade = excluded.grade, origin = excluded.origin, who = excluded.who, at = now();

-- name: listed
-- What each set has, and how many of its documents are not (or no longer) in the collection.
SELECT s.name, s.changed_at, count(q.id) AS queries, count(q.id) FILTER (WHERE j.good) AS judged,
       coalesce(sum(j.judgements), 0)::bigint AS judgements, coalesce(sum(j.missing), 0)::bigint AS missing
  FROM revec.judged_set s LEFT JOIN revec.judged_query q ON q.set_id = s.id
       LEFT JOIN LATERAL (
           SELECT bool_or(g.grade > 0) AS good, count(*) AS judgements,
                  count(*) FILTER (WHERE d.id IS NULL) AS missing
             FROM revec.judgement g
                  LEFT JOIN revec.source o ON o.collection_id = s.collection_id AND o.name = g.source
                  LEFT JOIN revec.document d ON d.source_id = o.id AND d.key = g.key
            WHERE g.query_id = q.id) AS j ON true
 WHERE s.collection_id = %(collection)s
 GROUP BY s.id ORDER BY s.name;

-- name: sets
SELECT name FROM revec.judged_set WHERE collection_id = %(collection)s ORDER BY name;

-- name: find
SELECT id, changed_at FROM revec.judged_set WHERE collection_id = %(collection)s AND name = %(name)s;

-- name: read
SELECT q.name, q.words, q.tenant, q.segment, j.sources, j.keys, j.grades
  FROM revec.judged_set s JOIN revec.judged_query q ON q.set_id = s.id
       CROSS JOIN LATERAL (SELECT array_agg(g.source) AS sources, array_agg(g.key) AS keys,
                                  array_agg(g.grade) AS grades
                             FROM revec.judgement g WHERE g.query_id = q.id HAVING count(*) > 0) AS j
 WHERE s.collection_id = %(collection)s AND s.name = %(name)s ORDER BY q.name;

-- name: known
-- The query of the set that asks just this of just this tenant; a form writes every line's end alike.
SELECT name, words, segment FROM revec.judged_query
 WHERE set_id = %(set)s AND tenant IS NOT DISTINCT FROM %(tenant)s
   AND regexp_replace(words, '\r\n?', E'\n', 'g') = %(words)s
 ORDER BY name LIMIT 1;

-- name: named
SELECT FROM revec.judged_query WHERE set_id = %(set)s AND name = %(name)s;

-- name: page
-- A set's queries by name, also those that nobody has judged yet.
SELECT q.name, q.words, q.tenant, q.segment, j.judgements, j.best
  FROM revec.judged_set s JOIN revec.judged_query q ON q.set_id = s.id
       CROSS JOIN LATERAL (SELECT count(*) AS judgements, max(g.grade) AS best
                             FROM revec.judgement g WHERE g.query_id = q.id) AS j
 WHERE s.collection_id = %(collection)s AND s.name = %(name)s AND q.name > %(after)s
 ORDER BY q.name LIMIT %(limit)s;

-- name: grades
-- What is known of these documents as answers to this query.
SELECT g.source, g.key, g.grade, g.origin, g.who, g.at
  FROM revec.judged_set s JOIN revec.judged_query q ON q.set_id = s.id
       JOIN revec.judgement g ON g.query_id = q.id
 WHERE s.collection_id = %(collection)s AND s.name = %(name)s AND q.tenant IS NOT DISTINCT FROM %(tenant)s
   AND regexp_replace(q.words, '\r\n?', E'\n', 'g') = %(words)s
   AND (g.source, g.key) IN (SELECT n.source, n.key
                               FROM unnest(%(sources)s::text[], %(keys)s::text[]) AS n (source, key));

-- name: needed
-- The migration that is to be proven by the set.
SELECT id FROM revec.migration
 WHERE collection_id = %(collection)s AND state <> ALL (%(final)s) AND judged->>'judged' = %(name)s;

-- name: drop
DELETE FROM revec.judged_set WHERE collection_id = %(collection)s AND name = %(name)s;

-- name: answerable
-- Queries of a set that have a good answer among the documents that are there and its tenant may see.
SELECT DISTINCT q.name FROM revec.judged_set s
       JOIN revec.judged_query q ON q.set_id = s.id
       JOIN revec.judgement g ON g.query_id = q.id AND g.grade > 0
       JOIN revec.source o ON o.collection_id = s.collection_id AND o.name = g.source
       JOIN revec.document d ON d.source_id = o.id AND d.key = g.key
 WHERE s.collection_id = %(collection)s AND s.name = %(name)s AND (q.tenant IS NULL OR d.tenant = q.tenant);

-- name: documents_of
SELECT d.id AS doc_id, n.source, n.key
  FROM unnest(%(sources)s::text[], %(keys)s::text[]) AS n (source, key)
       JOIN revec.source s ON s.collection_id = %(collection)s AND s.name = n.source
       JOIN revec.document d ON d.source_id = s.id AND d.key = n.key;

-- name: document_of
SELECT FROM revec.document d JOIN revec.source s ON s.id = d.source_id
 WHERE s.collection_id = %(collection)s AND s.name = %(source)s AND d.key = %(key)s
   AND (%(tenant)s::text IS NULL OR d.tenant = %(tenant)s);
