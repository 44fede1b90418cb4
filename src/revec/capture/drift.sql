-- name: state
-- What stands before a look at a source: whoever it is left to cannot be told apart from drift.
SELECT s.fault, s.paused_why, s.scan IS NOT NULL AS being_read, s.mapping, s.name, s.collection_id,
       (SELECT count(*) FROM (SELECT FROM revec.change c WHERE c.source_id = s.id LIMIT %(most)s + 1) AS c) AS open,
       EXISTS (SELECT FROM revec.change c
                WHERE c.source_id = s.id AND c.old_key IS NULL AND c.new_key IS NULL) AS to_be_read
  FROM revec.source s WHERE s.id = %(source)s;

-- name: rows
-- The table's next rows beside their documents, in the order of the key. One statement, one snapshot: a row and
-- its change come from one transaction, so what differs and has no open change is what no trigger told of.
SELECT t.key,
       CASE WHEN NOT t.kept OR o.key IS NOT NULL THEN NULL
            WHEN d.id IS NULL THEN 'unseen'
            WHEN d.tenant <> t.tenant THEN 'moved'
            WHEN (d.title, d.body) IS DISTINCT FROM (t.title, t.body) THEN 'changed'
            WHEN d.metadata <> t.metadata THEN 'metadata' END AS cause,
       CASE WHEN d.metadata <> t.metadata THEN d.metadata END AS was,
       CASE WHEN d.metadata <> t.metadata THEN t.metadata END AS becomes
  FROM (SELECT *, row_number() OVER () AS place FROM ({rows}) AS page) AS t
       LEFT JOIN revec.document d ON d.source_id = %(source)s AND d.key = t.key
       LEFT JOIN ({open}) AS o ON o.key = t.key
 ORDER BY t.place;

-- name: gone
-- Of these documents those whose rows are not there any more, or are filtered out.
SELECT n.key
  FROM unnest(%(all)s::text[]) AS n (key)
       JOIN revec.document d ON d.source_id = %(source)s AND d.key = n.key
       LEFT JOIN ({rows}) AS t ON t.key = n.key
       LEFT JOIN ({open}) AS o ON o.key = n.key
 WHERE NOT coalesce(t.kept, false) AND o.key IS NULL ORDER BY n.key;

-- name: open
-- Keys that the projector will look at anyway.
SELECT old_key AS key FROM revec.change WHERE source_id = %(source)s AND old_key IS NOT NULL
UNION SELECT new_key FROM revec.change WHERE source_id = %(source)s AND new_key IS NOT NULL

-- name: heal
-- As a trigger would have told it: the projector reads the rows as they are, and writes the documents.
INSERT INTO revec.change (source_id, old_key, new_key)
SELECT %(source)s, k, k FROM unnest(%(keys)s::text[]) AS k;

-- name: contents
-- Documents that were written past their own triggers, or whose source nobody knows.
SELECT d.id AS doc_id, d.key, d.source_id,
       CASE WHEN s.id IS NULL THEN 'sourceless' ELSE 'unstamped' END AS cause
  FROM revec.document d LEFT JOIN revec.source s ON s.id = d.source_id
 WHERE d.id > %(after)s AND d.id <= %(upto)s AND d.collection_id = %(collection)s
   AND (s.id IS NULL OR d.input_hash <> revec.input_hash(d.title, d.body))
 ORDER BY d.id;

-- name: stamp_again
-- No content is changed: the triggers see what they were not shown, and make its work.
UPDATE revec.document SET title = title WHERE id = ANY (%(ids)s::bigint[]);

-- name: is_ours
-- Whether the table that has the name now is the one that our trigger is on, switched off or not.
SELECT EXISTS (SELECT FROM pg_trigger t
                WHERE t.tgrelid = to_regclass(%(table)s) AND t.tgname = 'revec_' || %(source)s || '_rows') AS ours;
