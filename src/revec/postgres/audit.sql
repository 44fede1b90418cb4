-- name: patience
-- Somebody waits for this page: who filters for what is rare in a long history hears that it takes too long.
SELECT set_config('statement_timeout', %(ms)s::text, true) AS set;

-- name: page
-- What people and workers did, the newest first. Each part is read from its newest on and ends after a page, so
-- that a long history costs no more than a short one. `tie` puts what happened at one moment in an order.
SELECT a.at, a.kind, a.collection, a.who, a.did, a.why, a.tie
  FROM (
    (SELECT e.at, CASE WHEN e.became IS NULL THEN 'told' ELSE 'move' END AS kind, c.name AS collection, e.who,
            CASE WHEN e.became IS NULL THEN format('migration %%s, %%s', m.id, e.was)
                 ELSE format('migration %%s: %%s → %%s', m.id, coalesce(e.was, 'nothing'), e.became) END AS did,
            e.why, md5('event ' || e.id) AS tie
       FROM revec.migration_event e JOIN revec.migration m ON m.id = e.migration_id
            JOIN revec.collection c ON c.id = m.collection_id
      WHERE (%(kind)s::text IS NULL OR %(kind)s = CASE WHEN e.became IS NULL THEN 'told' ELSE 'move' END)
        AND (%(collection)s::text IS NULL OR c.name = %(collection)s)
        AND (%(who)s::text IS NULL OR strpos(lower(e.who), lower(%(who)s)) > 0)
        AND e.at BETWEEN %(since)s AND %(until)s
        AND (e.at < %(until)s OR md5('event ' || e.id) < %(tie)s)
      ORDER BY e.at DESC, tie DESC LIMIT %(limit)s)
    UNION ALL
    (SELECT j.at, 'judgement', c.name, j.who, format('grade %%s for %%s of %%s', j.grade, j.key, j.source),
            format('%%s, in set %%s', q.words, s.name), md5(concat_ws(' ', 'judgement', q.id, j.source, j.key)) AS tie
       FROM revec.judgement j JOIN revec.judged_query q ON q.id = j.query_id
            JOIN revec.judged_set s ON s.id = q.set_id JOIN revec.collection c ON c.id = s.collection_id
      WHERE j.who IS NOT NULL AND coalesce(%(kind)s::text, 'judgement') = 'judgement'
        AND (%(collection)s::text IS NULL OR c.name = %(collection)s)
        AND (%(who)s::text IS NULL OR strpos(lower(j.who), lower(%(who)s)) > 0)
        AND j.at BETWEEN %(since)s AND %(until)s
        AND (j.at < %(until)s OR md5(concat_ws(' ', 'judgement', q.id, j.source, j.key)) < %(tie)s)
      ORDER BY j.at DESC, tie DESC LIMIT %(limit)s)
    UNION ALL
    SELECT few.*
      FROM (
        SELECT k.created_at AS at, 'key' AS kind, c.name AS collection, k.created_by AS who,
               format('made key %%s: %%s of %%s', k.prefix, k.role, coalesce(k.tenant, 'all tenants')) AS did,
               coalesce('until ' || to_char(k.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'), '') AS why,
               md5('made ' || k.prefix) AS tie
          FROM revec.api_key k LEFT JOIN revec.collection c ON c.id = k.collection_id
        UNION ALL
        SELECT k.revoked_at, 'revoked', c.name, coalesce(k.revoked_by, ''), 'revoked key ' || k.prefix, '',
               md5('revoked ' || k.prefix)
          FROM revec.api_key k LEFT JOIN revec.collection c ON c.id = k.collection_id
         WHERE k.revoked_at IS NOT NULL
        UNION ALL
        SELECT t.set_at, 'throttle', c.name, t.set_by,
               concat_ws(', ', q.rate || ' documents/s', t.concurrency || ' claims at once',
                         t.claim || ' documents in a claim'), '', md5('throttle ' || c.id)
          FROM revec.throttle t JOIN revec.collection c ON c.id = t.collection_id
               LEFT JOIN revec.quota q ON q.model = 'collection:' || c.id AND q.resource = 'documents'
        UNION ALL
        SELECT h.rung_at, 'shadow', c.name, h.set_by,
               format('index %%s shadows at %%s %%%%', h.index_id, h.rate * 100), '', md5('shadow ' || c.id)
          FROM revec.shadow h JOIN revec.collection c ON c.id = h.collection_id
        UNION ALL
        SELECT f.at, 'fusion', c.name, f.who, coalesce('vectors count ' || f.alpha, 'ranks decide'), '',
               md5(concat_ws(' ', 'fusion', c.id, f.space_id, f.query, f.language))
          FROM revec.fusion f JOIN revec.collection c ON c.id = f.collection_id
      ) AS few
     WHERE (%(kind)s::text IS NULL OR few.kind = %(kind)s)
       AND (%(collection)s::text IS NULL OR few.collection = %(collection)s)
       AND (%(who)s::text IS NULL OR strpos(lower(few.who), lower(%(who)s)) > 0)
       AND few.at BETWEEN %(since)s AND %(until)s AND (few.at < %(until)s OR few.tie < %(tie)s)
  ) AS a
 ORDER BY a.at DESC, a.tie DESC LIMIT %(limit)s;
