-- What ends every write, as functions: prepared statements do not get through a pooler, so the server would parse
-- and plan three statements of six tables each time; of a function each of its own connections keeps the plans.
-- A plan that is kept must also do when the tables have grown: no table is read whole.

-- What was dead or left out is so no longer.
CREATE FUNCTION revec.absolve(of_index integer, ids bigint[], gone boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
    WITH live AS (
        DELETE FROM revec.dead WHERE index_id = of_index AND doc_id = ANY (ids) RETURNING *
    )
    INSERT INTO revec.dead_settled (index_id, doc_id, tenant, cause, attempts, first_at, last_at, resolution)
    SELECT index_id, doc_id, tenant, cause, attempts, first_at, last_at,
           CASE WHEN gone THEN 'abandoned' WHEN retried_at IS NULL THEN 'edited' ELSE 'retry_success' END
      FROM live;
    DELETE FROM revec.excluded WHERE index_id = of_index AND doc_id = ANY (ids);
END $$;

-- Acknowledge what was claimed: a newer revision, or somebody else's claim, stays. A revision is drawn
-- from one sequence for all documents, so two lists say what pairs would; a join with the pairs compares
-- each with each wherever the planner takes the claim for one row (256 rows: 9 ms in place of 0.3), and so
-- would a plan that does not know the lists: this one is made anew.
CREATE FUNCTION revec.settle(of_index integer, ids bigint[], revs bigint[], claim uuid) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    settled integer;
BEGIN
    DELETE FROM revec.work w
     WHERE w.index_id = of_index AND w.doc_id = ANY (ids)
       AND w.rev = ANY (revs) AND w.token = claim;
    GET DIAGNOSTICS settled = ROW_COUNT;
    RETURN settled;
END $$;

-- Written where it belongs: the note is no longer needed. Locked in the order in which it is leased; by
-- its key, since a look of another worker (pay_lease) may have moved the row before we locked it.
CREATE FUNCTION revec.pay_done(of_space text, payment uuid, hashes bytea[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
    WITH ours AS MATERIALIZED (
        SELECT p.text_hash FROM revec.paid p
         WHERE p.space_id = of_space AND p.token = payment AND p.text_hash = ANY (hashes)
         ORDER BY p.text_hash FOR UPDATE
    )
    DELETE FROM revec.paid p
     WHERE p.space_id = of_space AND p.text_hash = ANY (ARRAY (SELECT text_hash FROM ours));
END $$;
