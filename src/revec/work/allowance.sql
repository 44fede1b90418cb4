-- name: briefly
-- Whoever has a tenant's row lets go of it in milliseconds, or a search does better without.
SELECT set_config('lock_timeout', '100ms', true);

-- name: allow
-- How many documents each tenant may still have embedded in this minute; its row is ours until the commit.
INSERT INTO revec.demand AS a (index_id, tenant, level, at)
SELECT %(index)s, tenant, %(minute)s, clock_timestamp() FROM unnest(%(tenants)s::text[]) AS n (tenant)
 ORDER BY tenant
ON CONFLICT (index_id, tenant) DO UPDATE
   SET level = least(%(minute)s, a.level + %(minute)s / 60.0
                                          * extract(epoch FROM clock_timestamp() - a.at)),
       at = clock_timestamp()
RETURNING tenant, floor(level)::int AS documents;

-- name: take
UPDATE revec.demand a SET level = a.level - n.documents, documents = a.documents + n.documents
  FROM unnest(%(tenants)s::text[], %(counts)s::int[]) AS n (tenant, documents)
 WHERE a.index_id = %(index)s AND a.tenant = n.tenant;

-- name: total
-- Documents that searches had embedded for an index.
SELECT coalesce(sum(documents), 0)::bigint AS documents FROM revec.demand WHERE index_id = %(index)s;
