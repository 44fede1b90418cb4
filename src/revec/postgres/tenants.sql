-- name: listed
-- A page of tenants in the order of their names: those with documents, by a loose scan of the cursors'
-- index of so many steps, and those that somebody said something about. What lies behind the last step is not
-- known yet: `horizon` is up to where this page has looked, and there also where it found nothing. Documents are
-- counted up to a bound. How far the open migration is in each comes from its cursors.
WITH RECURSIVE walk AS (
    SELECT %(after)s::text AS tenant, 0 AS n
    UNION ALL
    SELECT d.tenant, walk.n + 1
      FROM walk CROSS JOIN LATERAL (
          SELECT tenant FROM revec.document
           WHERE collection_id = %(collection)s AND tenant > walk.tenant ORDER BY tenant LIMIT 1) AS d
     WHERE walk.n < %(steps)s
), known AS MATERIALIZED (
    SELECT tenant FROM revec.tenant
     WHERE collection_id = %(collection)s AND tenant > %(after)s
       AND (%(tier)s::text IS NULL OR tier = %(tier)s) AND (NOT %(paused)s OR paused_why IS NOT NULL)
     ORDER BY tenant LIMIT %(most)s
), horizon AS (
    SELECT least((SELECT tenant FROM walk WHERE n = %(steps)s AND n > 0),
                 (SELECT max(tenant) FROM known HAVING count(*) = %(most)s)) AS tenant
), page AS (
    SELECT names.tenant
      FROM (SELECT tenant FROM walk WHERE n > 0 UNION SELECT tenant FROM known) AS names
           CROSS JOIN horizon
     WHERE (horizon.tenant IS NULL OR names.tenant <= horizon.tenant)
       AND strpos(lower(names.tenant), lower(%(word)s)) > 0
     ORDER BY names.tenant LIMIT %(limit)s
), under_way AS (
    SELECT id, new_index FROM revec.migration
     WHERE collection_id = %(collection)s AND state NOT IN ('finished', 'aborted') ORDER BY id DESC LIMIT 1
), open AS (
    SELECT w.tenant, count(*) AS n, count(*) FILTER (WHERE w.lane = 2 AND w.index_id = m.new_index) AS backfill
      FROM revec.work w LEFT JOIN under_way m ON true
     WHERE w.index_id = ANY (%(indexes)s::int[]) GROUP BY w.tenant
), dead AS (
    SELECT tenant, count(*) AS n FROM revec.dead WHERE index_id = ANY (%(indexes)s::int[]) GROUP BY tenant
)
SELECT page.tenant, coalesce(t.tier, '') AS tier, coalesce(t.priority, 0) AS priority,
       coalesce(t.weight, 1) AS weight, t.paused_why AS paused, t.budget, coalesce(t.spent, 0) AS spent,
       (SELECT count(*) FROM (SELECT FROM revec.document d
                               WHERE d.collection_id = %(collection)s AND d.tenant = page.tenant
                               LIMIT %(bound)s) AS counted) AS documents,
       coalesce(open.n, 0) AS open, coalesce(dead.n, 0) AS dead,
       greatest(b.seen - coalesce(open.backfill, 0), 0) AS moved, greatest(b.documents, b.seen) AS to_move, horizon.tenant AS horizon
  FROM horizon LEFT JOIN page ON true
       LEFT JOIN revec.tenant t ON t.collection_id = %(collection)s AND t.tenant = page.tenant
       LEFT JOIN revec.backfill b ON b.migration_id = (SELECT id FROM under_way) AND b.tenant = page.tenant
       LEFT JOIN open ON open.tenant = page.tenant LEFT JOIN dead ON dead.tenant = page.tenant
 ORDER BY page.tenant;

-- name: say
-- What is NULL stays as it is, or has its default; rows that would not change are left alone.
INSERT INTO revec.tenant AS t (collection_id, tenant, tier, priority, weight)
SELECT %(collection)s, n.tenant, coalesce(n.tier, ''), coalesce(n.priority, 0), coalesce(n.weight, 1)
  FROM unnest(%(tenants)s::text[], %(tiers)s::text[], %(priorities)s::int[], %(weights)s::int[])
              AS n (tenant, tier, priority, weight)
 ORDER BY n.tenant
ON CONFLICT (collection_id, tenant) DO NOTHING;

-- name: say_again
WITH said AS MATERIALIZED (
    SELECT t.tenant, coalesce(n.tier, t.tier) AS tier, coalesce(n.priority, t.priority) AS priority,
           coalesce(n.weight, t.weight) AS weight
      FROM unnest(%(tenants)s::text[], %(tiers)s::text[], %(priorities)s::int[], %(weights)s::int[])
                  AS n (tenant, tier, priority, weight)
           JOIN revec.tenant t ON t.collection_id = %(collection)s AND t.tenant = n.tenant
     WHERE (t.tier, t.priority, t.weight) IS DISTINCT FROM
           (coalesce(n.tier, t.tier), coalesce(n.priority, t.priority), coalesce(n.weight, t.weight))
     ORDER BY t.tenant FOR NO KEY UPDATE OF t
)
UPDATE revec.tenant t SET tier = said.tier, priority = said.priority, weight = said.weight
  FROM said WHERE t.collection_id = %(collection)s AND t.tenant = said.tenant;

-- name: budget
UPDATE revec.tenant SET budget = %(budget)s
 WHERE collection_id = %(collection)s AND tenant = ANY (%(tenants)s::text[]);

-- name: pause
INSERT INTO revec.tenant (collection_id, tenant, paused_why)
SELECT %(collection)s, tenant, %(why)s FROM unnest(%(tenants)s::text[]) AS n (tenant) ORDER BY tenant
ON CONFLICT (collection_id, tenant) DO UPDATE SET paused_why = excluded.paused_why;

-- name: resume
UPDATE revec.tenant SET paused_why = NULL
 WHERE collection_id = %(collection)s AND tenant = ANY (%(tenants)s::text[]) AND paused_why IS NOT NULL
RETURNING tenant;

-- name: paused
SELECT tenant, paused_why AS why FROM revec.tenant
 WHERE collection_id = %(collection)s AND paused_why IS NOT NULL ORDER BY tenant LIMIT %(limit)s;

-- name: unknown
-- Of these, the ones that have no document yet.
SELECT n.tenant FROM unnest(%(tenants)s::text[]) AS n (tenant)
 WHERE NOT EXISTS (SELECT FROM revec.document d
                    WHERE d.collection_id = %(collection)s AND d.tenant = n.tenant);

-- name: keep_query
-- Where to read tenants from; NULL: nowhere any more. A changed query is read at once.
UPDATE revec.collection SET tenants_query = %(query)s, tenants_at = NULL, tenants_fault = NULL
 WHERE id = %(collection)s AND tenants_query IS DISTINCT FROM %(query)s;

-- name: due
-- Whose tenants are to be read again: of several workers that ask, one is told.
UPDATE revec.collection c SET tenants_at = now()
  FROM (SELECT id FROM revec.collection
         WHERE tenants_query IS NOT NULL
           AND (tenants_at IS NULL OR tenants_at < now() - make_interval(secs => %(every)s))
           FOR NO KEY UPDATE SKIP LOCKED) AS waiting
 WHERE c.id = waiting.id
RETURNING c.id, c.name, c.tenants_query AS query;

-- name: fault
UPDATE revec.collection SET tenants_fault = %(why)s
 WHERE id = %(collection)s AND tenants_fault IS DISTINCT FROM %(why)s;

-- name: faulted
SELECT tenants_fault AS why FROM revec.collection WHERE id = %(collection)s;

-- name: budgets
-- Tenants that have one, those that are nearest to its end first.
SELECT c.name AS collection, t.tenant, t.budget, t.spent
  FROM revec.tenant t JOIN revec.collection c ON c.id = t.collection_id
 WHERE t.budget IS NOT NULL
 ORDER BY t.spent - t.budget DESC, c.name, t.tenant LIMIT %(limit)s;
