-- Which index answers this tenant and this sticky key (what is set for the tenant at this very epoch, else the
-- canary for its share of the keys, else what serves), how it wants to be asked, which one is being filled (not by
-- batches: what is with the provider already would be paid for twice, for nobody who waits), and whether that one
-- may answer before it: not while a person or a guard holds its migration, nor after a rollback, nor while its
-- model rests. And which index shadows the answers: of the two of a cutover the other one, unless it is written no
-- more, or a person or a guard paused the migration.
-- A function, since every search begins with it: twelve tables took longer to plan than to read. OFFSET 0: the
-- planner takes the two by themselves, or it would weigh the orders of all twelve, on each connection and anew.
CREATE FUNCTION revec.routed(
    of_collection text, of_tenant text, of_key text, reverse_rate float8, early_states text[], abortable_states text[])
RETURNS TABLE (
    collection_id integer, epoch bigint, serving integer, previous integer, canary integer, share float8, id integer,
    recipe jsonb, query jsonb, kind text, writing boolean, held boolean, fault text, store text, place text,
    writer text, adopted jsonb, resting text, filling integer, early_migration integer, early_version integer,
    candidate integer, shadow_rate float8, salt text)
LANGUAGE plpgsql STABLE ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT c.id AS collection_id, r.epoch, r.serving, r.previous, r.canary, r.share, i.id, s.recipe, i.query, i.kind,
           i.writing, i.held, i.fault, i.store, i.place, i.writer, to_jsonb(a) AS adopted,
           CASE WHEN p.resting_until > now() THEN coalesce(p.why, p.trouble, 'it failed') END AS resting,
           (SELECT m.new_index FROM revec.migration m
             WHERE m.collection_id = c.id AND m.state = 'backfilling' AND m.paused_why IS NULL
               AND NOT m.patient) AS filling,
           early.migration_id AS early_migration, early.version AS early_version,
           shadow.candidate, shadow.rate AS shadow_rate, shadow.salt
      FROM revec.collection c
           JOIN revec.route r ON r.collection_id = c.id
           LEFT JOIN revec.override o
                  ON o.collection_id = c.id AND o.tenant = of_tenant AND o.epoch = r.epoch
           LEFT JOIN revec.index i ON i.id = CASE
               WHEN o.index_id IS NOT NULL THEN o.index_id
               WHEN r.share > 0 AND revec.place(r.canary, of_key) < r.share THEN r.canary
               ELSE r.serving END
           LEFT JOIN revec.space s ON s.id = i.space_id
           LEFT JOIN revec.adopted a ON a.index_id = i.id
           LEFT JOIN revec.provider p ON p.model = i.query->>'address'
           LEFT JOIN LATERAL (
               SELECT b.migration_id, b.version
                 FROM revec.migration m JOIN revec.bridge b ON b.migration_id = m.id AND b.holds
                      JOIN revec.index n ON n.id = m.new_index AND n.writing AND n.fault IS NULL
                      LEFT JOIN revec.provider q ON q.model = n.query->>'address'
                WHERE m.collection_id = c.id AND m.serve_early AND m.state = ANY (early_states)
                  AND m.old_index = r.serving AND m.new_index IS DISTINCT FROM r.previous
                  AND m.paused_why IS NULL AND m.hold IS NULL
                  AND (q.resting_until > now()) IS NOT TRUE OFFSET 0) AS early ON true
           LEFT JOIN LATERAL (
               SELECT x.id AS candidate, h.salt,
                      CASE WHEN h.index_id = r.serving THEN least(h.rate, reverse_rate) ELSE h.rate END AS rate
                 FROM revec.shadow h
                      JOIN revec.index x ON x.id = CASE WHEN h.index_id = r.serving THEN r.previous ELSE h.index_id END
                WHERE h.collection_id = c.id AND h.rate > 0 AND x.writing AND x.fault IS NULL
                  AND NOT EXISTS (SELECT FROM revec.migration m
                                   WHERE m.collection_id = c.id AND m.paused_why IS NOT NULL
                                     AND m.state = ANY (abortable_states)) OFFSET 0) AS shadow ON true
     WHERE c.name = of_collection;
END $$;
