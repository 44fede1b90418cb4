-- name: parts
-- What there is to walk through: tables, documents, indexes. Not one that is being filled: its gates look at it;
-- nor one whose graph is being built: nobody writes there; nor an adopted column, which is its user's; nor one
-- whose model is not trusted or does not answer any more: nothing could be put in the place of what is found.
SELECT ARRAY[0, s.id, half.n] AS part FROM revec.source s CROSS JOIN generate_series(0, 1) AS half (n)
 WHERE s.collection_id = %(collection)s AND s.mapping IS NOT NULL
   AND (%(source)s::text IS NULL OR s.name = %(source)s)
UNION ALL
SELECT ARRAY[1, 0, 0] WHERE %(source)s::text IS NULL
UNION ALL
SELECT ARRAY[2 + pass.n, i.id, 0] FROM revec.index i CROSS JOIN generate_series(0, 1) AS pass (n)
 WHERE i.collection_id = %(collection)s AND i.writing AND NOT i.held AND %(source)s::text IS NULL
   AND (pass.n = 0 OR i.store <> 'pg') AND i.fault IS NULL
   AND NOT EXISTS (SELECT FROM revec.adopted a WHERE a.index_id = i.id)
   AND NOT EXISTS (SELECT FROM revec.migration m
                    WHERE m.old_index = i.id AND m.old_model_gone IS NOT NULL AND m.state <> ALL (%(final)s))
   AND NOT EXISTS (SELECT FROM revec.migration m
                    WHERE m.new_index = i.id AND NOT m.cursor_done AND m.state <> ALL (%(final)s))
 ORDER BY 1;

-- name: lock_timeout
-- Somebody builds or drops: this page can wait for the next look.
SELECT set_config('lock_timeout', '2s', true);
