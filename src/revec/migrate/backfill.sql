-- name: lock
-- Ours until the commit; nothing where the migration has moved on.
SELECT collection_id AS collection, enumerated FROM revec.migration
 WHERE id = %(migration)s AND NOT cursor_done AND state = 'backfilling' FOR UPDATE;

-- name: forget
-- The cursors of the collection's former migrations.
DELETE FROM revec.backfill b USING revec.migration m
 WHERE m.id = b.migration_id AND m.collection_id = %(collection)s AND m.id <> %(migration)s;

-- name: enumerate
-- One pass over the cursors' index finds the tenants and counts their documents.
WITH found AS (
    INSERT INTO revec.backfill (migration_id, tenant, documents, priority, paused)
    SELECT %(migration)s, d.tenant, d.documents, turn.priority, turn.paused
      FROM (SELECT tenant, count(*) AS documents FROM revec.document
             WHERE collection_id = %(collection)s GROUP BY tenant) AS d
           JOIN revec.migration m ON m.id = %(migration)s
           LEFT JOIN revec.tenant t ON t.collection_id = %(collection)s AND t.tenant = d.tenant
           CROSS JOIN LATERAL revec.backfill_turn(m.priority, m.tenants, d.tenant, t.tier, t.priority, t.paused_why)
                   AS turn
 RETURNING documents
)
UPDATE revec.migration
   SET enumerated = true, documents = (SELECT coalesce(sum(documents), 0) FROM found)
 WHERE id = %(migration)s;

-- name: room
-- How many documents the next page may have at most: none where the backfill is to stop here.
SELECT CASE WHEN until IS NULL THEN %(size)s
            ELSE least(%(size)s, ceil(until * documents)::bigint - seen) END AS documents,
       until IS NOT NULL AS ends
  FROM revec.migration WHERE id = %(migration)s;

-- name: turn
-- Whose the next page is: unfinished tenants of the highest priority, those who waited longest first.
WITH served AS (
    SELECT b.tenant, b.after_id, b.priority, b.served_at, coalesce(t.weight, 1) AS weight
      FROM revec.backfill b
           LEFT JOIN revec.tenant t ON t.collection_id = %(collection)s AND t.tenant = b.tenant
     WHERE b.migration_id = %(migration)s AND NOT b.done AND NOT b.paused
       AND b.priority = (SELECT top.priority FROM revec.backfill top
                          WHERE top.migration_id = %(migration)s AND NOT top.done AND NOT top.paused
                          ORDER BY top.priority DESC LIMIT 1)
     ORDER BY b.served_at, b.tenant LIMIT %(tenants)s
)
SELECT tenant, after_id, priority,
       ceil(%(size)s::numeric * weight / sum(weight) OVER ())::int AS share FROM served;

-- name: next_page
-- The next documents that lack a vector, and the tenants' cursors, in one transaction: killed anywhere, it
-- goes on where it was. A document written meanwhile has its own work already. What is patient is not due: it
-- waits for a batch. Each tenant is read by the cursors' index, one document further than its share: so it is
-- known who is through. OFFSET 0 asks for each document by its key: an anti-join would read all of the vectors
-- for every page.
WITH turn AS (
    SELECT * FROM unnest(%(tenants)s::text[], %(after)s::bigint[], %(shares)s::int[])
                  AS t (tenant, after_id, share)
), found AS MATERIALIZED (
    SELECT p.id, p.tenant, p.rev, p.input_hash, p.n <= turn.share AS taken
      FROM turn CROSS JOIN LATERAL (
          SELECT d.id, d.tenant, d.rev, d.input_hash, row_number() OVER (ORDER BY d.id) AS n
            FROM revec.document d
           WHERE d.collection_id = %(collection)s AND d.tenant = turn.tenant AND d.id > turn.after_id
           ORDER BY d.id LIMIT turn.share + 1) AS p
), enqueued AS (
    INSERT INTO revec.work (index_id, doc_id, rev, action, lane, tenant, priority, not_before)
    SELECT %(index)s, p.id, p.rev, 'embed', 2, p.tenant, %(priority)s,
           CASE WHEN %(patient)s THEN 'infinity' ELSE '-infinity' END::timestamptz FROM found p
     WHERE p.taken
       AND NOT EXISTS (SELECT FROM {vectors} v
                        WHERE v.doc_id = p.id AND v.chunk_no = 0 AND v.input_hash = p.input_hash OFFSET 0)
       AND NOT EXISTS (SELECT FROM revec.excluded e
                        WHERE e.index_id = %(index)s AND e.doc_id = p.id AND e.input_hash = p.input_hash OFFSET 0)
       AND NOT EXISTS (SELECT FROM revec.dead x
                        WHERE x.index_id = %(index)s AND x.doc_id = p.id AND x.input_hash = p.input_hash OFFSET 0)
     ORDER BY p.id
    ON CONFLICT DO NOTHING
), passed AS (
    SELECT turn.tenant, count(*) FILTER (WHERE found.taken) AS documents,
           max(found.id) FILTER (WHERE found.taken) AS last, bool_and(coalesce(found.taken, true)) AS done
      FROM turn LEFT JOIN found ON found.tenant = turn.tenant GROUP BY turn.tenant
)
UPDATE revec.backfill b
   SET after_id = coalesce(p.last, b.after_id), seen = b.seen + p.documents, done = p.done,
       served_at = clock_timestamp()
  FROM passed p
 WHERE b.migration_id = %(migration)s AND b.tenant = p.tenant
RETURNING p.documents;

-- name: turned
-- The migration's own figures. It is enumerated to the end when every tenant is, the paused ones too.
UPDATE revec.migration
   SET seen = seen + %(passed)s,
       cursor_done = NOT EXISTS (SELECT FROM revec.backfill b
                                  WHERE b.migration_id = %(migration)s AND NOT b.done)
 WHERE id = %(migration)s;

-- name: can_go_on
-- Whether there is a next page: paused tenants have none.
SELECT NOT m.enumerated OR EXISTS (SELECT FROM revec.backfill b
                                    WHERE b.migration_id = m.id AND NOT b.done AND NOT b.paused) AS it_can
  FROM revec.migration m WHERE m.id = %(migration)s AND NOT m.cursor_done;

-- name: held_up
-- Paused tenants that lack vectors in the new index, up to a handful.
SELECT t.tenant, t.paused_why AS why FROM revec.tenant t
 WHERE t.collection_id = %(collection)s AND t.paused_why IS NOT NULL
   AND (EXISTS (SELECT FROM revec.backfill b
                 WHERE b.migration_id = %(migration)s AND b.tenant = t.tenant AND NOT b.done)
        OR EXISTS (SELECT FROM revec.work w
                    WHERE w.index_id = %(index)s AND w.tenant = t.tenant AND w.action = 'embed'))
 ORDER BY t.tenant LIMIT %(limit)s;

-- name: waiting
-- Tenants that this backfill is not for, for now, and is not through with; their documents that it has not passed.
SELECT count(*) AS tenants, coalesce(sum(greatest(b.documents - b.seen, 0)), 0)::bigint AS documents,
       (array_agg(b.tenant ORDER BY b.tenant))[:%(limit)s] AS some
  FROM revec.backfill b JOIN revec.migration m ON m.id = b.migration_id
 WHERE b.migration_id = %(migration)s AND NOT b.done
   AND cardinality(m.tenants) > 0 AND b.tenant <> ALL (m.tenants);

-- name: progress
-- By tenant, those of the highest priority first: its documents that are through, and what died. A tenant
-- that came while the backfill ran has no cursor; it is shown for as long as it has something open.
WITH open AS (
    SELECT tenant, count(*) AS n, count(*) FILTER (WHERE lane = 2) AS backfill
      FROM revec.work WHERE index_id = %(index)s AND action = 'embed' GROUP BY tenant
), dead AS (
    SELECT tenant, count(*) AS n, mode() WITHIN GROUP (ORDER BY cause) AS error
      FROM revec.dead WHERE index_id = %(index)s GROUP BY tenant
), cursors AS (
    SELECT * FROM revec.backfill WHERE migration_id = %(migration)s
)
SELECT tenant, coalesce(t.tier, '') AS tier, coalesce(t.priority, 0) AS priority,
       CASE WHEN NOT c.done AND c.seen = 0 THEN 'pending'
            WHEN coalesce(c.done, true) AND open.n IS NULL THEN 'complete'
            ELSE 'active' END AS state,
       c.seen - coalesce(open.backfill, 0) AS done, greatest(c.documents, c.seen) AS "all",
       coalesce(open.n, 0) AS open, coalesce(dead.n, 0) AS dead, dead.error,
       coalesce(t.paused_why, CASE WHEN c.paused AND NOT c.done THEN 'it waits, the backfill is for others' END) AS paused
  FROM cursors c FULL JOIN open USING (tenant) FULL JOIN dead USING (tenant)
       LEFT JOIN (SELECT * FROM revec.tenant WHERE collection_id = %(collection)s) AS t USING (tenant)
 ORDER BY priority DESC, tenant LIMIT %(limit)s;
