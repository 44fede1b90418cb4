-- name: ripe
-- Indexes of patient migrations with enough work for a batch: a full one, all that there is, or what has
-- waited long enough. Paused tenants have none, nor do models whose batches failed a moment ago.
SELECT m.new_index AS index_id, m.id AS migration_id
  FROM revec.migration m JOIN revec.index i ON i.id = m.new_index
       CROSS JOIN LATERAL (
           SELECT count(*) AS n, min(each.since) AS oldest
             FROM (SELECT w.since FROM revec.work w
                    WHERE w.index_id = i.id AND w.not_before = 'infinity'
                      AND NOT EXISTS (SELECT FROM revec.batch_member b
                                       WHERE b.index_id = w.index_id AND b.doc_id = w.doc_id)
                      AND NOT EXISTS (SELECT FROM revec.tenant t
                                       WHERE t.collection_id = i.collection_id AND t.tenant = w.tenant
                                         AND t.paused_why IS NOT NULL)
                    LIMIT %(full)s) AS each) AS waiting
 WHERE m.patient AND m.state NOT IN ('finished', 'aborted') AND m.paused_why IS NULL
   AND i.writing AND NOT i.held AND i.fault IS NULL
   AND NOT EXISTS (SELECT FROM revec.provider p
                    WHERE p.model = m.target || %(lane)s
                      AND greatest(p.resting_until, p.probe_until) > clock_timestamp())
   AND (waiting.n >= %(full)s
        OR waiting.n > 0 AND (m.cursor_done OR waiting.oldest < now() - make_interval(secs => %(wait)s)))
 ORDER BY m.id;

-- name: submitting
-- From here on the provider may have it.
UPDATE revec.batch SET state = 'submitting', file = %(file)s, submitted_at = clock_timestamp()
 WHERE id = %(batch)s AND state = 'intended' RETURNING *;

-- name: submitted
UPDATE revec.batch
   SET state = 'submitted', provider_id = %(provider_id)s,
       look_at = clock_timestamp() + make_interval(secs => %(first)s)
 WHERE id = %(batch)s AND state = 'submitting' RETURNING *;

-- name: due
-- Batches that it is time to look at.
SELECT b.*, extract(epoch FROM clock_timestamp() - b.submitted_at)::float8 AS age, i.writing
  FROM revec.batch b JOIN revec.index i ON i.id = b.index_id
 WHERE b.state <> 'done' AND (b.look_at <= clock_timestamp() OR NOT i.writing) ORDER BY b.id;

-- name: looked
-- The longer a batch takes, the more rarely it is looked at; what it brought is written in a moment.
UPDATE revec.batch
   SET answered = greatest(answered, %(answered)s),
       look_at = clock_timestamp() + make_interval(secs => least(%(longest)s, greatest(%(first)s,
                     CASE WHEN state <> 'collected'
                          THEN extract(epoch FROM clock_timestamp() - submitted_at) / 10 END)))
 WHERE id = %(batch)s;

-- name: look_now
UPDATE revec.batch SET look_at = clock_timestamp() WHERE state IN ('submitting', 'submitted');

-- name: keep
-- What the batch paid for, where nobody else is paying for it just now. Locked in the order of payments.
WITH given AS (
    SELECT n.text_hash, n.vector
      FROM unnest(%(hashes)b::bytea[], %(vectors)b::halfvec[]) AS n (text_hash, vector)
     WHERE EXISTS (SELECT FROM revec.batch_member m
                    WHERE m.batch_id = %(batch)s AND m.text_hash = n.text_hash)
), kept AS (
    INSERT INTO revec.paid AS p (space_id, text_hash, lease_until, token, vector)
    SELECT %(space)s, text_hash, now(), %(mark)s, vector FROM given ORDER BY text_hash
    ON CONFLICT (space_id, text_hash) DO UPDATE
       SET vector = excluded.vector, token = excluded.token, at = now()
     WHERE p.vector IS NULL AND p.lease_until < now()
)
UPDATE revec.batch_member m SET answered = true
 WHERE m.batch_id = %(batch)s AND m.text_hash IN (SELECT text_hash FROM given);

-- name: refuse
UPDATE revec.batch_member m SET refused = n.why
  FROM unnest(%(hashes)b::bytea[], %(reasons)s::text[]) AS n (text_hash, why)
 WHERE m.batch_id = %(batch)s AND m.text_hash = n.text_hash;

-- name: collected
UPDATE revec.batch
   SET state = 'collected', why = %(why)s, ended_at = clock_timestamp(),
       answered = (SELECT count(DISTINCT text_hash) FROM revec.batch_member
                    WHERE batch_id = %(batch)s AND answered)
 WHERE id = %(batch)s AND state = 'submitted' RETURNING *;

-- name: claim_refused
-- Documents of which the provider refused a text: claimed, so that they are buried behind the fence.
WITH refused AS (
    SELECT doc_id, rev, max(refused) AS cause, max(input_hash) AS input_hash FROM revec.batch_member
     WHERE batch_id = %(batch)s GROUP BY doc_id, rev HAVING max(refused) IS NOT NULL
), ours AS MATERIALIZED (
    SELECT w.doc_id, r.cause, r.input_hash FROM revec.work w JOIN refused r USING (doc_id, rev)
     WHERE w.index_id = %(index)s AND w.not_before = 'infinity'
     ORDER BY w.doc_id FOR UPDATE OF w SKIP LOCKED
)
UPDATE revec.work w SET token = %(mark)s, attempts = w.attempts + 1
  FROM ours WHERE w.index_id = %(index)s AND w.doc_id = ours.doc_id
RETURNING w.doc_id, w.rev, w.action, w.tenant, w.attempts, ours.input_hash, ours.cause;

-- name: release
-- A document all of whose texts were answered is due: whoever claims it finds them paid for. The others
-- wait for the next batch, or are due after so many tries. What somebody edited or removed has another rev;
-- what he is just changing is looked at again.
WITH fate AS (
    SELECT doc_id, rev, bool_and(answered) AS whole FROM revec.batch_member
     WHERE batch_id = %(batch)s GROUP BY doc_id, rev HAVING max(refused) IS NULL
), ours AS MATERIALIZED (
    SELECT w.doc_id, f.whole FROM revec.work w JOIN fate f USING (doc_id, rev)
     WHERE w.index_id = %(index)s AND w.not_before = 'infinity'
     ORDER BY w.doc_id FOR UPDATE OF w SKIP LOCKED
), again AS (
    DELETE FROM revec.batch_member m USING ours
     WHERE m.index_id = %(index)s AND m.doc_id = ours.doc_id AND NOT ours.whole
)
UPDATE revec.work w
   SET attempts = w.attempts + (NOT ours.whole)::int,
       not_before = CASE WHEN ours.whole OR w.attempts + 1 >= %(tries)s THEN '-infinity'::timestamptz
                         ELSE 'infinity' END
  FROM ours WHERE w.index_id = %(index)s AND w.doc_id = ours.doc_id;

-- name: dropped
-- A batch that never began, or failed as a whole: its documents wait for another one, or are due after so
-- many tries. `blamed`: whether this was one.
WITH ended AS (
    UPDATE revec.batch SET state = 'done', why = %(why)s, ended_at = clock_timestamp()
     WHERE id = %(batch)s AND state <> 'done' RETURNING id
), members AS (
    DELETE FROM revec.batch_member m USING ended WHERE m.batch_id = ended.id RETURNING m.doc_id, m.rev
), ours AS MATERIALIZED (
    SELECT w.doc_id FROM revec.work w JOIN (SELECT DISTINCT doc_id, rev FROM members) AS m USING (doc_id, rev)
     WHERE w.index_id = %(index)s AND w.not_before = 'infinity'
     ORDER BY w.doc_id FOR UPDATE OF w SKIP LOCKED
), again AS (
    UPDATE revec.work w
       SET attempts = w.attempts + 1,
           not_before = CASE WHEN w.attempts + 1 >= %(tries)s THEN '-infinity'::timestamptz
                             ELSE 'infinity' END
      FROM ours WHERE %(blamed)s AND w.index_id = %(index)s AND w.doc_id = ours.doc_id
)
SELECT id FROM ended;

-- name: finish
-- All of it is written, or belongs to nobody any more: the notes of what is written go. What was paid for
-- and has changed since is kept for a day.
WITH ended AS (
    UPDATE revec.batch b SET state = 'done'
     WHERE b.id = %(batch)s AND b.state = 'collected'
       AND NOT EXISTS (SELECT FROM revec.batch_member m
                         JOIN revec.work w ON w.index_id = m.index_id AND w.doc_id = m.doc_id AND w.rev = m.rev
                        WHERE m.batch_id = b.id)
 RETURNING b.id
), members AS (
    DELETE FROM revec.batch_member m USING ended WHERE m.batch_id = ended.id RETURNING m.*
), written AS MATERIALIZED (
    SELECT p.text_hash FROM revec.paid p
     WHERE p.space_id = %(space)s AND p.token = %(mark)s
       AND p.text_hash IN (SELECT m.text_hash FROM members m
                             JOIN revec.document d ON d.id = m.doc_id AND d.input_hash = m.input_hash)
     ORDER BY p.text_hash FOR UPDATE
), noted AS (
    DELETE FROM revec.paid p USING written
     WHERE p.space_id = %(space)s AND p.text_hash = written.text_hash
)
SELECT id FROM ended;

-- name: unfinished
-- Models of batches whose documents are all written: their notes are still to go.
SELECT b.model FROM revec.batch b
 WHERE b.state = 'collected'
   AND NOT EXISTS (SELECT FROM revec.batch_member m
                     JOIN revec.work w ON w.index_id = m.index_id AND w.doc_id = m.doc_id AND w.rev = m.rev
                    WHERE m.batch_id = b.id);

-- name: under_way
-- Batches that their provider has, and how many documents still wait for them.
SELECT b.index_id, b.model, b.submitted_at, b.inputs, b.answered, b.dollars::float8 AS dollars,
       extract(epoch FROM clock_timestamp() - b.submitted_at)::float8 AS age,
       b.look_at <= clock_timestamp() AS due,
       (SELECT count(DISTINCT w.doc_id) FROM revec.batch_member m
          JOIN revec.work w ON w.index_id = m.index_id AND w.doc_id = m.doc_id AND w.rev = m.rev
                           AND w.not_before = 'infinity'
         WHERE m.batch_id = b.id) AS documents
  FROM revec.batch b
 WHERE b.index_id = ANY (%(indexes)s::int[]) AND b.state IN ('submitting', 'submitted') ORDER BY b.id;
