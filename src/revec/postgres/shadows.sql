-- name: of
SELECT h.*, extract(epoch FROM clock_timestamp() - h.rung_at)::float8 AS rung_seconds
  FROM revec.shadow h WHERE h.collection_id = %(collection)s;

-- name: point
-- The salt stays, so a larger rate takes in all that a smaller one did. The rung begins anew, as after an incident.
INSERT INTO revec.shadow AS h (collection_id, index_id, rate, set_by)
VALUES (%(collection)s, %(index)s, %(rate)s, %(who)s)
ON CONFLICT (collection_id) DO UPDATE
   SET index_id = excluded.index_id, rate = excluded.rate, set_by = excluded.set_by,
       since = CASE WHEN h.index_id = excluded.index_id THEN h.since ELSE now() END,
       rung_at = now();

-- name: raised
-- Only if it is still what the caller saw.
UPDATE revec.shadow SET rate = %(rate)s, rung_at = now(), set_by = %(who)s
 WHERE collection_id = %(collection)s AND index_id = %(index)s AND rate = %(seen)s
RETURNING rate;

-- name: off
-- And what the rate was.
UPDATE revec.shadow h SET rate = 0, rung_at = now(), set_by = %(who)s
  FROM (SELECT rate FROM revec.shadow WHERE collection_id = %(collection)s FOR UPDATE) AS was
 WHERE h.collection_id = %(collection)s AND h.rate > 0 RETURNING was.rate;

-- name: claim
-- One process observes a query; to the others it was asked once more. A claim whose process died is taken over.
INSERT INTO revec.observation AS o
       (collection_id, serving, candidate, query, tenant, mode, place, chosen, weight, token)
VALUES (%(collection)s, %(serving)s, %(candidate)s, %(query)s, %(tenant)s, %(mode)s, %(place)s, %(chosen)s,
        %(weight)s, %(token)s)
ON CONFLICT (collection_id, serving, candidate, query) DO UPDATE
   SET weight = o.weight + excluded.weight,
       token = CASE WHEN o.done_at IS NULL AND o.at < clock_timestamp() - make_interval(secs => %(lost)s)
                    THEN excluded.token ELSE o.token END,
       at = CASE WHEN o.done_at IS NULL AND o.at < clock_timestamp() - make_interval(secs => %(lost)s)
                 THEN clock_timestamp() ELSE o.at END
RETURNING o.id, o.token = %(token)s AS mine;

-- name: release
-- It could not be observed now: another request may try.
DELETE FROM revec.observation WHERE id = %(id)s AND token = %(token)s AND done_at IS NULL;

-- name: put
-- Only by the holder of the claim: what a process says after it was given up for dead counts no more.
UPDATE revec.observation
   SET done_at = clock_timestamp(), new_first = %(new_first)s, changed = %(changed)s,
       again_outcome = %(again_outcome)s, new_outcome = %(new_outcome)s,
       answer_embed = %(answer_embed)s, answer_search = %(answer_search)s,
       again_embed = %(again_embed)s, again_search = %(again_search)s,
       new_embed = %(new_embed)s, new_search = %(new_search)s,
       overlap = %(overlap)s, rbo = %(rbo)s, same_first = %(same_first)s,
       floor_overlap = %(floor_overlap)s, floor_rbo = %(floor_rbo)s, floor_first = %(floor_first)s,
       lost = %(lost)s, gained = %(gained)s, documents = %(documents)s::bigint[][], scores = %(scores)s::real[][]
 WHERE id = %(id)s AND token = %(token)s AND done_at IS NULL;

-- name: asked_again
-- Repeats weigh; nothing is asked a second time for them.
UPDATE revec.observation o SET weight = o.weight + n.times
  FROM unnest(%(queries)s::bytea[], %(times)s::bigint[]) AS n (query, times)
 WHERE o.collection_id = %(collection)s AND o.serving = %(serving)s AND o.candidate = %(candidate)s
   AND o.query = n.query;

-- name: count
INSERT INTO revec.shed AS s (collection_id, serving, candidate, hour, taken, dropped)
VALUES (%(collection)s, %(serving)s, %(candidate)s, date_trunc('hour', now()), %(taken)s, %(dropped)s)
ON CONFLICT (collection_id, serving, candidate, hour) DO UPDATE
   SET taken = s.taken + excluded.taken, dropped = s.dropped + excluded.dropped;

-- name: prune
-- By age, and by number: the newest of each collection stay.
DELETE FROM revec.observation WHERE id IN (
    SELECT id FROM revec.observation WHERE at < clock_timestamp() - make_interval(days => %(days)s)
     ORDER BY at LIMIT 1000)
    OR (collection_id = %(collection)s AND id <= (
        SELECT id FROM revec.observation WHERE collection_id = %(collection)s
         ORDER BY id DESC OFFSET %(most)s LIMIT 1));

-- name: prune_shed
DELETE FROM revec.shed WHERE hour < now() - make_interval(days => %(days)s);

-- name: seen
-- What was observed of a pair, in the order in which it became known. What was chosen for its tenant alone is in
-- the sample too as soon as the rate reaches it.
SELECT o.id, o.tenant, o.place, o.weight, o.chosen, o.new_first, o.changed, o.again_outcome, o.new_outcome,
       o.again_embed, o.again_search, o.new_embed, o.new_search, o.overlap, o.rbo, o.same_first,
       o.floor_overlap, o.floor_rbo, o.floor_first, o.lost, o.gained, o.scores[2][1] AS again_score,
       o.scores[3][1] AS new_score, o.done_at > %(rung_at)s::timestamptz AS in_rung,
       o.done_at > clock_timestamp() - interval '1 day' AS of_late,
       o.chosen <> 'tenant' OR o.place < %(rate)s AS sampled
  FROM revec.observation o
 WHERE o.collection_id = %(collection)s AND o.serving = %(serving)s AND o.candidate = %(candidate)s
   AND o.done_at IS NOT NULL
 ORDER BY o.done_at, o.id;

-- name: worst
-- Questions of which the two indexes made the least alike answers; of equals those that are asked most.
SELECT o.query, o.tenant, o.mode, o.weight, o.overlap, o.rbo, o.lost, o.gained, o.documents, o.done_at
  FROM revec.observation o
 WHERE o.collection_id = %(collection)s AND o.serving = %(serving)s AND o.candidate = %(candidate)s
   AND o.done_at IS NOT NULL AND NOT o.changed AND o.again_outcome = 'ok' AND o.new_outcome = 'ok'
 ORDER BY o.overlap, o.weight DESC, o.id LIMIT %(limit)s;

-- name: rung
-- Where the old index asked again failed as well, nothing was compared.
SELECT count(*) FILTER (WHERE o.again_outcome NOT IN ('error', 'timeout')) AS questions,
       count(*) FILTER (WHERE o.new_outcome <> 'ok' AND o.again_outcome = 'ok') AS bad,
       count(*) FILTER (WHERE o.again_outcome IN ('error', 'timeout')) AS failed
  FROM revec.observation o
 WHERE o.collection_id = %(collection)s AND o.serving = %(serving)s AND o.candidate = %(candidate)s
   AND o.done_at > %(rung_at)s::timestamptz AND (o.chosen <> 'tenant' OR o.place < %(rate)s);

-- name: losses
-- Of the last day: what was taken, and what was dropped or lost with its process.
SELECT (SELECT coalesce(sum(taken), 0) FROM revec.shed s
         WHERE s.collection_id = %(collection)s AND s.serving = %(serving)s AND s.candidate = %(candidate)s
           AND s.hour > now() - interval '1 day')::bigint AS taken,
       (SELECT coalesce(sum(dropped), 0) FROM revec.shed s
         WHERE s.collection_id = %(collection)s AND s.serving = %(serving)s AND s.candidate = %(candidate)s
           AND s.hour > now() - interval '1 day')::bigint AS dropped,
       (SELECT count(*) FROM revec.observation o
         WHERE o.collection_id = %(collection)s AND o.serving = %(serving)s AND o.candidate = %(candidate)s
           AND o.done_at IS NULL AND o.at < clock_timestamp() - make_interval(secs => %(lost)s)) AS lost;

-- name: looked_up
-- Of documents that an arm showed: whether they are there and may be seen still, and what each index has of them.
SELECT n.place, d.id AS doc_id, d.rev, coalesce((%(tenant)s::text IS NULL OR d.tenant = %(tenant)s)
                                                AND {matching}, false) AS visible,
       a.input_hash IS NOT NULL AS in_old, coalesce(a.input_hash = d.input_hash, false) AS fresh_in_old,
       b.input_hash IS NOT NULL AS in_new, coalesce(b.input_hash = d.input_hash, false) AS fresh_in_new
  FROM unnest(%(sources)s::text[], %(keys)s::text[]) WITH ORDINALITY AS n (source, key, place)
       LEFT JOIN revec.source s ON s.collection_id = %(collection)s AND s.name = n.source
       LEFT JOIN revec.document d ON d.source_id = s.id AND d.key = n.key
       LEFT JOIN {old} a ON a.doc_id = d.id AND a.chunk_no = 0
       LEFT JOIN {new} b ON b.doc_id = d.id AND b.chunk_no = 0
 ORDER BY n.place;
