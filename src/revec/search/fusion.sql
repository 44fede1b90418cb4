-- name: fused
-- Two legs as one list. By ranks (Cormack, Clarke and Büttcher, 2009), or with alpha by scores, each over the
-- best of its list (Bruch, Gai and Ingber, 2023): cosines from -1 on, BM25 from 0 on.
SELECT doc_id,
       CASE WHEN ({alpha}) IS NULL
            THEN coalesce(1.0 / (%(k)s + v.rank), 0) + coalesce(1.0 / (%(k)s + w.rank), 0)
            ELSE ({alpha}) * coalesce((1 + v.score) / nullif(1 + v.best, 0), 0)
                 + (1 - ({alpha})) * coalesce(w.score / nullif(w.best, 0), 0) END::float8 AS score,
       v.rank AS vector_rank, v.score::float8 AS vector_score, w.rank AS lexical_rank, w.score::float8 AS lexical_score
  FROM (SELECT doc_id, score, row_number() OVER best AS rank, max(score) OVER () AS best
          FROM ({vectors}) AS leg WINDOW best AS (ORDER BY score DESC, doc_id)) AS v
       FULL JOIN (
        SELECT doc_id, score, row_number() OVER best AS rank, max(score) OVER () AS best
          FROM ({words}) AS leg WINDOW best AS (ORDER BY score DESC, doc_id)) AS w USING (doc_id)
 ORDER BY score DESC, doc_id

-- name: given
-- A leg that was read before.
SELECT * FROM unnest({ids}::bigint[], {scores}::float8[]) AS given (doc_id, score)

-- name: hydrated
-- The documents that there are still; of this tenant and through the filter, whatever the legs say, which may be
-- older. Their contents from the best on,
-- as far as there is room (bytes).
SELECT d.key, d.title, d.tenant, s.name AS source, fused.*,
       CASE WHEN %(room)s::bigint > 0
             AND sum(octet_length(d.body) + octet_length(d.metadata::text)) OVER so_far <= %(room)s::bigint
            THEN jsonb_build_object('text', d.body, 'metadata', d.metadata) END AS contents
  FROM ({fused}) AS fused JOIN revec.document d ON d.id = fused.doc_id
       JOIN revec.source s ON s.id = d.source_id
 WHERE (%(tenant)s::text IS NULL OR d.tenant = %(tenant)s) AND {matching}
WINDOW so_far AS (ORDER BY fused.score DESC, fused.doc_id)
 ORDER BY fused.score DESC, fused.doc_id LIMIT %(hits)s;

-- name: recent
-- What an empty query is answered with. Contents as above, of the latest alone.
SELECT key, title, tenant, source,
       CASE WHEN %(room)s::bigint > 0
             AND sum(octet_length(body) + octet_length(metadata::text)) OVER so_far <= %(room)s::bigint
            THEN jsonb_build_object('text', body, 'metadata', metadata) END AS contents
  FROM (SELECT d.key, d.title, d.tenant, s.name AS source, d.body, d.metadata, d.rev
          FROM revec.document d JOIN revec.source s ON s.id = d.source_id
         WHERE d.collection_id = %(collection)s AND (%(tenant)s::text IS NULL OR d.tenant = %(tenant)s)
           AND {matching}
         ORDER BY d.rev DESC LIMIT %(hits)s) AS latest
WINDOW so_far AS (ORDER BY rev DESC)
 ORDER BY rev DESC;

-- name: tried
-- The best so many by each share, of the same candidates: what the fusion would answer with it. Each leg is read once.
WITH vectors AS MATERIALIZED ({vectors}), words AS MATERIALIZED ({words})
SELECT share.n, hits.key
  FROM unnest(%(shares)s::float8[]) WITH ORDINALITY AS share (alpha, n) CROSS JOIN LATERAL ({hits}) AS hits
 ORDER BY share.n, hits.score DESC, hits.doc_id;

-- name: leg
SELECT doc_id, score FROM {leg}

-- name: kept
-- The vectors' share of the score; NULL: ranks decide. Only what was learnt from these very legs.
SELECT alpha FROM revec.fusion
 WHERE collection_id = %(collection)s AND space_id = %(space)s AND query = %(recipe)s
   AND language = (SELECT language FROM revec.collection WHERE id = %(collection)s)

-- name: in_force
-- The same with its evidence, and the language of the words: NULL where there is no lexical leg.
SELECT c.language, f.alpha, f.evidence, f.who, f.at
  FROM revec.collection c
       LEFT JOIN revec.fusion f ON f.collection_id = c.id AND f.space_id = %(space)s AND f.query = %(recipe)s
                               AND f.language = c.language
 WHERE c.id = %(collection)s;

-- name: keep
-- Only if what was seen is still in force, and the words are still read in that language.
INSERT INTO revec.fusion AS f (collection_id, space_id, query, language, alpha, evidence, who)
SELECT id, %(space)s, %(recipe)s, language, %(alpha)s, %(evidence)s, %(who)s
  FROM revec.collection WHERE id = %(collection)s AND language = %(language)s
ON CONFLICT (collection_id, space_id, query, language) DO UPDATE
   SET alpha = excluded.alpha, evidence = excluded.evidence, who = excluded.who, at = now()
 WHERE f.alpha IS NOT DISTINCT FROM %(seen)s
RETURNING f.alpha;
