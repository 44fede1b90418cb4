-- Callers find an adopted column too, by the user's own graph: over the column itself, in its own type, by the
-- operator that the graph is ordered by.
CREATE OR REPLACE VIEW revec.destination AS
SELECT c.name AS collection, i.collection_id, i.id AS index_id, i.space_id,
       (s.recipe->>'provider') || ':' || (s.recipe->>'model') AS model, (s.recipe->>'dims')::integer AS dims,
       i.query, i.kind, format('revec.vectors_%s', i.id) AS relation,
       format('v.embedding OPERATOR(%1$s.<=>) $1::%1$s.halfvec', e.path) AS distance,
       CASE
       WHEN a.operator IS NOT NULL THEN format('v.own OPERATOR(%1$s.%2$s) $1::%1$s.%3$s', e.path, a.operator, a.type)
       WHEN i.kind = 'binary' THEN format('%1$s.binary_quantize(v.embedding)::bit(%2$s) OPERATOR(%1$s.<~>) '
                                          '%1$s.binary_quantize($1::%1$s.halfvec)::bit(%2$s)', e.path, s.recipe->>'dims')
       ELSE format('v.embedding OPERATOR(%1$s.<=>) $1::%1$s.halfvec', e.path) END AS nearness,
       CASE i.id WHEN r.serving THEN 'serves' WHEN r.previous THEN 'served before' ELSE 'is new' END AS standing,
       CASE
       WHEN i.store <> 'pg' THEN 'lives in ' || i.store || ', where SQL cannot look: ask over HTTP'
       WHEN i.id IN (r.serving, r.previous) THEN NULL
       WHEN m.state IN ('planned', 'capturing', 'backfilling') THEN 'is being filled'
       WHEN m.state = 'indexing' THEN 'is being built'
       WHEN m.state = 'verifying' THEN 'is being verified'
       WHEN i.fault IS NOT NULL THEN 'is not trusted: ' || i.fault
       END AS waits
  FROM revec.index i
       JOIN revec.collection c ON c.id = i.collection_id
       JOIN revec.route r ON r.collection_id = i.collection_id
       JOIN revec.space s ON s.id = i.space_id
       LEFT JOIN revec.adopted a ON a.index_id = i.id
       LEFT JOIN revec.migration m ON m.new_index = i.id AND m.state NOT IN ('finished', 'aborted')
       CROSS JOIN (SELECT extnamespace::regnamespace AS path FROM pg_extension WHERE extname = 'vector') AS e
 WHERE i.dropped_at IS NULL AND to_regclass(format('revec.vectors_%s', i.id)) IS NOT NULL;
