-- name: put
-- These tenants are answered by this index from the epoch on.
INSERT INTO revec.override AS o (collection_id, tenant, epoch, index_id)
SELECT %(collection)s, tenant, %(epoch)s, %(index)s FROM unnest(%(tenants)s::text[]) AS t (tenant)
ON CONFLICT (collection_id, tenant) DO UPDATE SET epoch = excluded.epoch, index_id = excluded.index_id;

-- name: in_force
-- Those of the present epoch; all others are void.
SELECT o.tenant, o.index_id FROM revec.override o JOIN revec.route r USING (collection_id, epoch)
 WHERE o.collection_id = %(collection)s ORDER BY o.tenant;

-- name: known
-- Of these tenants, those that have a document.
SELECT t.tenant FROM unnest(%(tenants)s::text[]) AS t (tenant)
 WHERE EXISTS (SELECT FROM revec.document d
                WHERE d.collection_id = %(collection)s AND d.tenant = t.tenant);

-- name: void
-- What no epoch will ever look at again.
DELETE FROM revec.override o USING revec.route r
 WHERE r.collection_id = o.collection_id AND o.collection_id = %(collection)s AND o.epoch < r.epoch;
