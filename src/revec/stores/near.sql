-- name: joined
-- What a store found counts as far as we know these points: documents, each by its nearest chunk.
SELECT v.doc_id, max(n.score) AS score
  FROM unnest(%(points)s::uuid[], %(scores)s::float8[]) AS n (point_id, score) JOIN {vectors} v USING (point_id)
 WHERE (%(tenant)s::text IS NULL OR v.tenant = %(tenant)s) AND {matching}
 GROUP BY v.doc_id ORDER BY score DESC, v.doc_id;

-- name: more
-- Whether there is another document that counts.
SELECT EXISTS (SELECT FROM {vectors} v
                WHERE (%(tenant)s::text IS NULL OR v.tenant = %(tenant)s) AND {matching}
                  AND v.doc_id <> ALL (%(ids)b::bigint[])) AS more;

-- name: passing
-- The tenant's chunks that a filter lets through, in the order of their points.
SELECT v.point_id, v.doc_id FROM {vectors} v
 WHERE (%(tenant)s::text IS NULL OR v.tenant = %(tenant)s) AND {matching}
   AND (%(after)s::uuid IS NULL OR v.point_id > %(after)s)
 ORDER BY v.point_id LIMIT %(limit)s;

-- name: given
SELECT * FROM unnest({ids}::bigint[], {scores}::float8[]) AS given (doc_id, score)
