-- Every query returns what breaks the invariant: no row is good.

-- name: whole_sets
-- I1: each live document has one whole, current chunk set in each written index, or a reason.
SELECT d.id AS doc_id, CASE WHEN v.n IS NULL THEN 'no vector' ELSE 'vectors of another content' END AS what
  FROM revec.document d
       LEFT JOIN LATERAL (
           SELECT count(*) AS n, bool_and(x.input_hash = d.input_hash) AND count(*) = max(x.chunk_count)
                  AND count(*) = count(DISTINCT x.chunk_no) AS whole
             FROM {vectors} x WHERE x.doc_id = d.id HAVING count(*) > 0) AS v ON true
 WHERE d.collection_id = %(collection)s AND NOT coalesce(v.whole, false)
   AND %(enumerated)s
   AND NOT EXISTS (SELECT FROM revec.backfill b WHERE b.migration_id = %(migration)s AND b.tenant = d.tenant
                                                  AND NOT b.done AND b.after_id < d.id)
   AND NOT EXISTS (SELECT FROM revec.work w WHERE w.index_id = %(index)s AND w.doc_id = d.id)
   AND NOT EXISTS (SELECT FROM revec.dead x WHERE x.index_id = %(index)s AND x.doc_id = d.id
                                              AND x.input_hash = d.input_hash)
   AND NOT EXISTS (SELECT FROM revec.excluded e WHERE e.index_id = %(index)s AND e.doc_id = d.id
                                              AND e.input_hash = d.input_hash)
 LIMIT 20;

-- name: orphans
-- I2: nothing of a document that is gone, except work that removes it.
SELECT v.doc_id, 'a vector of a deleted document' AS what FROM {vectors} v
 WHERE NOT EXISTS (SELECT FROM revec.document d WHERE d.id = v.doc_id AND d.collection_id = %(collection)s)
   AND NOT EXISTS (SELECT FROM revec.work w
                    WHERE w.index_id = %(index)s AND w.doc_id = v.doc_id AND w.action = 'delete')
 LIMIT 20;

-- name: tenants
-- I2, I7: a vector is its document's tenant's.
SELECT v.doc_id, 'a vector under another tenant' AS what
  FROM {vectors} v JOIN revec.document d ON d.id = v.doc_id WHERE v.tenant <> d.tenant LIMIT 20;

-- name: strays
-- I2: no work, dead letter, exclusion or tombstone of an index that is gone.
SELECT s.index_id, s.doc_id, s.what FROM (
    SELECT index_id, doc_id, 'work' AS what FROM revec.work
    UNION ALL SELECT index_id, doc_id, 'a dead letter' FROM revec.dead
    UNION ALL SELECT index_id, doc_id, 'an exclusion' FROM revec.excluded
    UNION ALL SELECT index_id, 0, 'a tombstone' FROM revec.tombstone) AS s
 WHERE NOT EXISTS (SELECT FROM revec.index i WHERE i.id = s.index_id)
    OR to_regclass('revec.vectors_' || s.index_id) IS NULL LIMIT 20;

-- name: vectors_right
-- I3, as far as SQL sees: unit length where promised, and one text one vector.
SELECT min(doc_id) AS doc_id, 'a zero or misshapen vector' AS what FROM {vectors}
 WHERE l2_norm(embedding) = 0 OR (%(unit)s AND abs(l2_norm(embedding) - 1) > 0.01)
HAVING count(*) > 0
UNION ALL
SELECT min(doc_id), 'equal texts with different vectors' FROM (
    SELECT doc_id, text_hash, embedding, first_value(embedding) OVER (PARTITION BY text_hash) AS one
      FROM {vectors}) AS t
 WHERE t.embedding <=> t.one > 0.001 AND l2_norm(t.embedding) > 0 AND l2_norm(t.one) > 0
 GROUP BY text_hash;

-- name: doomed
-- I3, of vectors elsewhere: none of those that are in use is about to be deleted.
SELECT v.doc_id, 'a vector that is about to be deleted' AS what
  FROM {vectors} v JOIN revec.tombstone t ON t.index_id = %(index)s AND t.point_id = v.point_id LIMIT 20;

-- name: by_index
-- A small table would be read without its index, and prove nothing.
SELECT set_config('enable_seqscan', 'off', true) AS seqscan, set_config('enable_sort', 'off', true) AS sort;

-- name: index_sees
-- I4: rows that the approximate index cannot find by their own vector (a sample of 50).
SELECT s.doc_id, 'a row that its index does not find' AS what
  FROM (SELECT doc_id, chunk_no, embedding FROM {vectors} ORDER BY random() LIMIT 50) AS s
 WHERE NOT EXISTS (
    SELECT FROM (SELECT {to_itself} AS distance FROM {vectors} ORDER BY distance LIMIT 10) AS near
     WHERE near.distance <= 0.0005);

-- name: one_route
-- I10: one route per collection, one migration under way, and the route is what its state says.
SELECT c.id AS doc_id, c.name || ' has no route' AS what FROM revec.collection c
 WHERE NOT EXISTS (SELECT FROM revec.route r WHERE r.collection_id = c.id)
UNION ALL
SELECT m.collection_id, 'two migrations at once' FROM revec.migration m
 WHERE m.state NOT IN ('finished', 'aborted') GROUP BY m.collection_id HAVING count(*) > 1
UNION ALL
SELECT m.id, 'migration ' || m.id || ' is ' || m.state || ' and the route does not serve that'
  FROM revec.migration m JOIN revec.route r USING (collection_id)
 WHERE m.state NOT IN ('finished', 'aborted')
   AND r.serving IS DISTINCT FROM
       CASE WHEN m.state IN ('live', 'finishing') THEN m.new_index ELSE m.old_index END
UNION ALL
SELECT r.collection_id, 'the route has a canary and its migration has none, or another one'
  FROM revec.route r LEFT JOIN revec.migration m
       ON m.collection_id = r.collection_id AND m.state NOT IN ('finished', 'aborted')
 WHERE r.canary IS DISTINCT FROM CASE WHEN m.state = 'canary' THEN m.new_index END
UNION ALL
SELECT o.collection_id, 'tenant ' || o.tenant || ' is answered by an index that is not written'
  FROM revec.override o JOIN revec.route r USING (collection_id, epoch)
       JOIN revec.index i ON i.id = o.index_id WHERE NOT i.writing
UNION ALL
SELECT r.collection_id, 'the route serves an index that is not written'
  FROM revec.route r JOIN revec.index i ON i.id = r.serving WHERE NOT i.writing
UNION ALL
SELECT m.id, 'migration ' || m.id || ' is not where its history left it' FROM revec.migration m
 WHERE m.state <> coalesce((SELECT e.became FROM revec.migration_event e
                             WHERE e.migration_id = m.id AND e.became IS NOT NULL
                             ORDER BY e.id DESC LIMIT 1), 'planned');

-- name: standby
-- I12: the index that a rollback would serve lags no more than the freshness goal, but for paused tenants.
SELECT w.doc_id, 'the standby waits longer than the freshness goal' AS what
  FROM revec.work w JOIN revec.route r ON r.previous = w.index_id
       JOIN revec.index i ON i.id = w.index_id AND i.fault IS NULL AND NOT i.held
 WHERE w.since < now() - make_interval(secs => %(freshness)s)
   AND NOT EXISTS (SELECT FROM revec.tenant p WHERE p.collection_id = i.collection_id
                      AND p.tenant = w.tenant AND p.paused_why IS NOT NULL) LIMIT 20;

-- name: lexicon
-- I15: postings and what is unfolded are together of the documents that there are.
SELECT coalesce(d.collection_id, l.collection_id) AS doc_id,
       'the lexicon of tenant ' || coalesce(d.tenant, l.tenant) || ' has ' || coalesce(l.n, 0)
       || ' documents where there are ' || coalesce(d.n, 0) AS what
  FROM (SELECT collection_id, tenant, count(*) AS n FROM revec.document
         WHERE collection_id IN (SELECT id FROM revec.collection WHERE language IS NOT NULL)
         GROUP BY 1, 2) AS d
       FULL JOIN (
           SELECT collection_id, tenant, sum(n) AS n
             FROM (SELECT collection_id, tenant, documents AS n FROM revec.lexicon
                   UNION ALL
                   SELECT collection_id, tenant, count(lexemes) - count(old_lexemes) FROM revec.unfolded
                    GROUP BY 1, 2) AS parts GROUP BY 1, 2) AS l USING (collection_id, tenant)
 WHERE coalesce(d.n, 0) <> coalesce(l.n, 0) LIMIT 20;
