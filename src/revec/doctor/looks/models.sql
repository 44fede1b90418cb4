-- name: models_in_use
-- Of every index that is kept current, the documents' and the queries'.
SELECT DISTINCT model, c.name AS collection
  FROM revec.index i JOIN revec.space s ON s.id = i.space_id JOIN revec.collection c ON c.id = i.collection_id,
       LATERAL (VALUES ((s.recipe->>'provider') || ':' || (s.recipe->>'model')), (i.query->>'address')) AS m (model)
 WHERE i.writing AND model IS NOT NULL;

-- name: distrusted_model
SELECT c.name AS collection, (s.recipe->>'provider') || ':' || (s.recipe->>'model') AS model, i.fault
  FROM revec.index i JOIN revec.space s ON s.id = i.space_id JOIN revec.collection c ON c.id = i.collection_id
 WHERE i.writing AND i.fault IS NOT NULL;

-- name: resting_model
SELECT p.model, coalesce(p.why, p.trouble, 'it failed') AS why, p.failures, p.since
  FROM revec.provider p WHERE p.resting_until IS NOT NULL AND p.trouble IS NOT NULL;

-- name: unwatched_model
-- A worker asks the sentinel texts again every hour.
SELECT (s.recipe->>'provider') || ':' || (s.recipe->>'model') AS model, s.checked_at,
       round(extract(epoch FROM now() - s.checked_at) / 3600)::int AS hours
  FROM revec.space s
 WHERE s.checked_at < now() - make_interval(secs => %(stale)s)
   AND EXISTS (SELECT FROM revec.sentinel n WHERE n.space_id = s.id)
   AND EXISTS (SELECT FROM revec.index i WHERE i.space_id = s.id AND i.writing AND i.fault IS NULL);
