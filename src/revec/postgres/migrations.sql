-- name: create
INSERT INTO revec.migration (collection_id, old_index, target, space_id, query, index_kind, gates, budget,
                             patient, serve_early, store, place, judged, shadow,
                             priority, tenants, until, approvals, guard_dead)
VALUES (%(collection)s, %(old)s, %(target)s, %(space)s, %(query)s, %(kind)s, %(gates)s, %(budget)s,
        %(patient)s, %(serve_early)s, %(store)s, %(place)s, %(judged)s, %(shadow)s,
        %(priority)s, %(tenants)s, %(until)s, %(approvals)s, %(guard_dead)s)
RETURNING id;

-- name: active
-- The migration under way of each collection, or of one.
SELECT m.* FROM revec.migration m
 WHERE m.state <> ALL (%(final)s) AND (%(collection)s::int IS NULL OR m.collection_id = %(collection)s)
 ORDER BY m.id;

-- name: latest
SELECT m.* FROM revec.migration m WHERE m.collection_id = %(collection)s ORDER BY m.id DESC LIMIT 1;

-- name: listed
SELECT m.* FROM revec.migration m WHERE m.collection_id = %(collection)s ORDER BY m.id DESC LIMIT %(limit)s;

-- name: by_id
SELECT m.* FROM revec.migration m WHERE m.id = %(id)s;

-- name: recipe
SELECT s.recipe, m.query FROM revec.migration m JOIN revec.space s ON s.id = m.space_id WHERE m.id = %(id)s;

-- name: move
-- Change the state only if it is still what the caller saw; tell the history in the same breath.
WITH moved AS (
    UPDATE revec.migration SET state = %(to)s, changed_at = now()
     WHERE id = %(id)s AND state = %(seen)s
 RETURNING id
)
INSERT INTO revec.migration_event (migration_id, who, was, became, why, evidence)
SELECT id, %(who)s, %(seen)s, %(to)s, %(why)s, %(evidence)s FROM moved
RETURNING id;

-- name: now_at
SELECT m.state, r.epoch FROM revec.migration m JOIN revec.route r USING (collection_id) WHERE m.id = %(id)s;

-- name: stay
-- The same within a state: whoever wants to move it waits, and then finds it as it is.
WITH here AS (
    UPDATE revec.migration SET changed_at = now() WHERE id = %(id)s AND state = %(seen)s RETURNING id, state
)
INSERT INTO revec.migration_event (migration_id, who, was, became, why, evidence)
SELECT id, %(who)s, state, NULL, %(why)s, %(evidence)s FROM here
RETURNING id;

-- name: note
-- Evidence that became known after the move, in the same transaction.
UPDATE revec.migration_event SET evidence = evidence || %(evidence)s
 WHERE id = (SELECT max(id) FROM revec.migration_event WHERE migration_id = %(id)s);

-- name: tell
INSERT INTO revec.migration_event (migration_id, who, was, became, why, evidence)
SELECT id, %(who)s, state, NULL, %(why)s, %(evidence)s FROM revec.migration WHERE id = %(id)s;

-- name: events
SELECT at, who, was, became, why, evidence FROM revec.migration_event
 WHERE migration_id = %(id)s ORDER BY id;

-- name: registered
UPDATE revec.migration SET new_index = %(index)s WHERE id = %(id)s;

-- name: pause
UPDATE revec.migration SET paused_why = %(why)s WHERE id = %(id)s;

-- name: stop
-- Where a person wanted the backfill to stop; the next `resume` is one without an end.
UPDATE revec.migration SET paused_why = %(why)s, until = NULL
 WHERE id = %(id)s AND state = 'backfilling' AND paused_why IS NULL AND until = %(until)s;

-- name: until
UPDATE revec.migration SET until = %(until)s WHERE id = %(id)s;

-- name: tenants
-- First, and its row is ours: a page in flight, or a word on a tenant, comes before or after.
UPDATE revec.migration SET tenants = %(tenants)s WHERE id = %(id)s;

-- name: turns
UPDATE revec.backfill b SET priority = turn.priority, paused = turn.paused
  FROM revec.migration m,
       revec.backfill o LEFT JOIN revec.tenant t ON t.tenant = o.tenant
           AND t.collection_id = (SELECT collection_id FROM revec.migration WHERE id = %(id)s),
       revec.backfill_turn(m.priority, m.tenants, o.tenant, t.tier, t.priority, t.paused_why) AS turn
 WHERE m.id = %(id)s AND o.migration_id = m.id AND b.migration_id = m.id AND b.tenant = o.tenant;

-- name: budget
UPDATE revec.migration SET budget = %(budget)s WHERE id = %(id)s;

-- name: latch
UPDATE revec.migration SET hold = coalesce(hold, %(why)s) WHERE id = %(id)s;

-- name: guarded_back
UPDATE revec.migration SET guarded_back_at = now(), overridden = '{}' WHERE id = %(id)s;

-- name: unhold
UPDATE revec.migration SET hold = NULL WHERE id = %(id)s;

-- name: drop_at
UPDATE revec.migration SET drop_after = now() + make_interval(secs => %(seconds)s) WHERE id = %(id)s;

-- name: keep_old
UPDATE revec.migration SET drop_after = NULL WHERE id = %(id)s;

-- name: old_model
UPDATE revec.migration SET old_model_gone = %(why)s, old_model_seen = now() WHERE id = %(id)s;

-- name: verdict
-- A failure takes back what a person let count as passed when it was none yet.
WITH known AS (
    INSERT INTO revec.verdict (migration_id, gate, outcome, why, evidence)
    VALUES (%(id)s, %(gate)s, %(outcome)s, %(why)s, %(evidence)s)
    RETURNING migration_id, gate, outcome
)
UPDATE revec.migration m SET overridden = m.overridden - known.gate
  FROM known WHERE m.id = known.migration_id AND known.outcome = 'FAILED'
   AND m.overridden->known.gate->>'stood' <> 'FAILED';

-- name: lock
SELECT FROM revec.migration WHERE id = %(id)s FOR UPDATE;

-- name: override
UPDATE revec.migration
   SET overridden = overridden || jsonb_build_object(
           %(gate)s::text, jsonb_build_object('reason', %(reason)s::text, 'stood', %(stood)s::text))
 WHERE id = %(id)s;

-- name: verdicts
-- The last word on each gate; a failure that nobody cleared outlives any later success. As old as the look.
SELECT DISTINCT ON (gate) gate, outcome, why, evidence, at,
       extract(epoch FROM clock_timestamp() - coalesce((evidence->>'looked_at')::timestamptz, at))::float AS age
  FROM revec.verdict WHERE migration_id = %(id)s AND cleared_at IS NULL
 ORDER BY gate, (outcome = 'FAILED') DESC, id DESC;

-- name: looked
-- Looks are counted, because each is a chance to err.
SELECT gate, outcome, why, evidence, at, cleared_at IS NOT NULL AS cleared,
       extract(epoch FROM clock_timestamp() - (evidence->>'looked_at')::timestamptz)::float AS age
  FROM revec.verdict WHERE migration_id = %(id)s AND gate = %(gate)s AND evidence ? 'look'
 ORDER BY id DESC LIMIT 1;

-- name: undecided_looks
-- How often gates could not tell since anything last moved.
SELECT count(*) AS looks FROM revec.verdict v JOIN revec.migration m ON m.id = v.migration_id
 WHERE m.id = %(id)s AND v.outcome = 'INCONCLUSIVE' AND v.at > m.changed_at;

-- name: clear
UPDATE revec.verdict SET cleared_at = now(), cleared_reason = %(reason)s
 WHERE migration_id = %(id)s AND gate = %(gate)s AND outcome = 'FAILED' AND cleared_at IS NULL;

-- name: sample_progress
-- At most one row in five seconds.
INSERT INTO revec.progress (migration_id, done)
SELECT %(id)s, %(done)s
 WHERE NOT EXISTS (SELECT FROM revec.progress
                    WHERE migration_id = %(id)s AND at > clock_timestamp() - interval '5 seconds');

-- name: rate
-- Documents per second over the last minute of samples.
SELECT (max(done) - min(done))
       / nullif(extract(epoch FROM max(at) - min(at)), 0)::float AS per_second
  FROM revec.progress
 WHERE migration_id = %(id)s
   AND at > (SELECT max(at) FROM revec.progress WHERE migration_id = %(id)s) - interval '1 minute';
