-- name: cursor
-- Ours until the commit; nothing where the migration has moved on.
SELECT collection_id AS collection, cursor_tenant AS tenant, cursor_id AS id FROM revec.migration
 WHERE id = %(migration)s AND NOT cursor_done AND state = 'backfilling' FOR UPDATE;

-- name: next_page
-- The next documents that lack a vector, and the cursor, in one transaction: killed anywhere, it goes
-- on where it was. A document written meanwhile has its own work already. The cursor comes as literals:
-- read in the same statement it would hide from the planner that one index page is enough.
WITH page AS MATERIALIZED (
    SELECT d.id, d.tenant, d.rev, d.input_hash FROM revec.document d
     WHERE d.collection_id = %(collection)s AND (d.tenant, d.id) > (%(tenant)s, %(id)s)
     ORDER BY d.tenant, d.id LIMIT %(size)s
), enqueued AS (
    INSERT INTO revec.work (index_id, doc_id, rev, action, lane, tenant)
    SELECT %(index)s, p.id, p.rev, 'embed', 2, p.tenant FROM page p
     WHERE NOT EXISTS (SELECT FROM {vectors} v
                        WHERE v.doc_id = p.id AND v.chunk_no = 0 AND v.input_hash = p.input_hash)
       AND NOT EXISTS (SELECT FROM revec.excluded e
                        WHERE e.index_id = %(index)s AND e.doc_id = p.id AND e.input_hash = p.input_hash)
       AND NOT EXISTS (SELECT FROM revec.dead x
                        WHERE x.index_id = %(index)s AND x.doc_id = p.id AND x.input_hash = p.input_hash)
     ORDER BY p.id
    ON CONFLICT DO NOTHING
)
UPDATE revec.migration m
   SET seen = m.seen + (SELECT count(*) FROM page),
       cursor_tenant = coalesce((SELECT max(tenant) FROM page), m.cursor_tenant),
       cursor_id = coalesce((SELECT max(id) FROM page WHERE tenant = (SELECT max(tenant) FROM page)),
                            m.cursor_id),
       cursor_done = (SELECT count(*) FROM page) < %(size)s
 WHERE m.id = %(migration)s
RETURNING (SELECT count(*) FROM page) AS passed;
