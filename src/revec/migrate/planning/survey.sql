-- name: every_document
revec.document d

-- name: some_documents
revec.document d TABLESAMPLE SYSTEM (%(percent)s)

-- name: no_vectors
(SELECT NULL::bigint AS doc_id, NULL::bytea AS input_hash WHERE false) AS v

-- name: vectors
LATERAL (SELECT v.doc_id, v.input_hash FROM {vectors} v WHERE v.doc_id = d.id AND v.chunk_no = 0) AS v

-- name: survey
-- By source: documents and their bytes, those without any text, those whose text another document has as well,
-- and how they stand in the index that serves. How long a text is does not take reading it.
WITH looked AS MATERIALIZED (
    SELECT d.source_id, d.input_hash, octet_length(d.title) + octet_length(d.body) AS size,
           CASE WHEN octet_length(d.title) + octet_length(d.body) > 64 THEN false
                ELSE d.title || d.body !~ '\S' END AS blank,
           v.doc_id IS NULL AS lacking, coalesce(v.input_hash <> d.input_hash, false) AS stale
      FROM {documents} LEFT JOIN {vectors} ON true
     WHERE d.collection_id = %(collection)s
), first AS (
    SELECT *, row_number() OVER (PARTITION BY input_hash) > 1 AS again FROM looked
)
SELECT s.name AS source, count(*) AS documents, sum(f.size)::bigint AS bytes, max(f.size) AS longest,
       count(*) FILTER (WHERE f.blank) AS blank,
       count(*) FILTER (WHERE f.again AND NOT f.blank) AS again,
       coalesce(sum(f.size) FILTER (WHERE NOT f.again AND NOT f.blank), 0)::bigint AS bytes_once,
       count(*) FILTER (WHERE f.lacking AND NOT f.blank) AS lacking,
       count(*) FILTER (WHERE f.stale) AS stale
  FROM first f JOIN revec.source s ON s.id = f.source_id GROUP BY s.name ORDER BY s.name;

-- name: size_of_table
-- Of all collections, about.
SELECT greatest(reltuples, 1)::float8 AS documents FROM pg_class WHERE oid = 'revec.document'::regclass;

-- name: turns
-- In the order in which the backfill would take them: tiers and priorities, and whom it would leave out.
SELECT turn.priority, turn.paused AS waits, coalesce(t.tier, '') AS tier, count(*) AS tenants,
       sum(d.documents)::bigint AS documents, (array_agg(d.tenant ORDER BY d.tenant))[:5] AS some
  FROM (SELECT tenant, count(*) AS documents FROM revec.document
         WHERE collection_id = %(collection)s GROUP BY tenant) AS d
       LEFT JOIN revec.tenant t ON t.collection_id = %(collection)s AND t.tenant = d.tenant
       CROSS JOIN LATERAL revec.backfill_turn(%(priority)s::text[], %(tenants)s::text[], d.tenant, t.tier,
                                              t.priority, t.paused_why) AS turn
 GROUP BY turn.priority, turn.paused, t.tier
 ORDER BY turn.paused, turn.priority DESC, tier LIMIT %(limit)s;
