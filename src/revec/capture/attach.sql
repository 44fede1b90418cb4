-- name: relation
-- What the table is. By the catalog, which also tells of a schema that we may not enter.
SELECT c.oid, n.nspname AS schema, c.relname AS name, format('%%I.%%I', n.nspname, c.relname) AS shown,
       c.relkind IN ('r', 'p') AS is_table,
       c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) AS has_children,
       row_security_active(c.oid) AS rows_hidden
  FROM parse_ident(%(table)s) AS parts, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE CASE cardinality(parts)
       WHEN 1 THEN c.relname = parts[1] AND pg_table_is_visible(c.oid)
       WHEN 2 THEN n.nspname = parts[1] AND c.relname = parts[2] END;

-- name: lacking
-- The rights that we lack on the table, its partitions and their schemas. Row triggers are cloned to
-- partitions by the server; a TRUNCATE trigger is ours to make on each.
WITH named AS (
    SELECT c.oid, c.relnamespace, c.oid = %(oid)s AS itself
      FROM pg_class c
     WHERE c.oid = %(oid)s OR c.oid IN (SELECT relid FROM pg_partition_tree(%(oid)s) WHERE isleaf)
)
SELECT 'USAGE' AS privilege, format('SCHEMA %%I', n.nspname) AS object
  FROM pg_namespace n
 WHERE n.oid IN (SELECT relnamespace FROM named) AND NOT has_schema_privilege(n.oid, 'USAGE')
UNION ALL
SELECT string_agg(p.name, ', ' ORDER BY p.name), format('%%I.%%I', n.nspname, c.relname)
  FROM named JOIN pg_class c ON c.oid = named.oid JOIN pg_namespace n ON n.oid = c.relnamespace
       CROSS JOIN (VALUES ('SELECT'), ('TRIGGER')) AS p (name)
 WHERE (p.name = 'TRIGGER' OR itself) AND NOT has_table_privilege(c.oid, p.name)
 GROUP BY n.nspname, c.relname
 ORDER BY 2;

-- name: columns
SELECT attname AS name, format_type(atttypid, NULL) AS type, attnotnull AS filled
  FROM pg_attribute WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped;

-- name: unique_keys
-- Every set of columns that names one row: whole, immediate, without expressions or conditions.
SELECT array_agg(a.attname::text ORDER BY k.place) AS columns, x.indisprimary AS primary
  FROM pg_index x
       CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS k (number, place)
       JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.number
 WHERE x.indrelid = to_regclass(%(table)s) AND x.indisunique AND x.indisvalid AND x.indimmediate
   AND x.indpred IS NULL AND x.indexprs IS NULL AND k.place <= x.indnkeyatts
 GROUP BY x.indexrelid, x.indisprimary
 ORDER BY x.indisprimary DESC, count(*);

-- name: partitions
SELECT n.nspname AS schema, c.relname AS name
  FROM pg_partition_tree(to_regclass(%(table)s)) p
       JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE p.isleaf;

-- name: captured
-- Whether every trigger of ours is there and on, also on each partition.
SELECT NOT EXISTS (
    SELECT FROM (SELECT to_regclass(%(table)s)::oid AS oid, 'rows' AS what
                 UNION ALL SELECT to_regclass(%(table)s)::oid, 'truncate'
                 UNION ALL SELECT p.relid::oid, w.what
                   FROM pg_partition_tree(to_regclass(%(table)s)) p,
                        (VALUES ('rows'), ('truncate')) AS w (what)
                  WHERE p.isleaf) AS wanted
     WHERE NOT EXISTS (SELECT FROM pg_trigger t
                        WHERE t.tgrelid = wanted.oid AND t.tgenabled IN ('O', 'A')
                          AND t.tgname = 'revec_' || %(source)s || '_' || wanted.what)) AS whole;

-- name: faulted
-- Whatever a person mended (a column dropped and added again, say) no trigger has told of.
SELECT id FROM revec.source
 WHERE collection_id = %(collection)s AND name = %(name)s AND fault IS NOT NULL;

-- name: read_again
-- Changes may have been missed: the table is read from its first row.
UPDATE revec.source SET scan = 'rows', scan_after = NULL WHERE id = %(source)s;

-- name: lock_timeout
-- The user's writers queue behind us for no longer than this.
SELECT set_config('lock_timeout', '2s', true);

-- name: function
-- Appends and nothing else; as the schema's owner, so the table's writers need no rights here.
-- Where the key cannot be read (its column was renamed, dropped, or has another type than this session
-- has planned for), the user's write goes on all the same: a change without keys means "look again".
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $revec$
DECLARE
    was text;
    becomes text;
BEGIN
    {by_us};
    BEGIN
        IF TG_OP IN ('UPDATE', 'DELETE') THEN was := {old_key}; END IF;
        IF TG_OP IN ('INSERT', 'UPDATE') THEN becomes := {new_key}; END IF;
    EXCEPTION WHEN OTHERS THEN
        was := NULL;
        becomes := NULL;
    END;
    INSERT INTO revec.change (source_id, old_key, new_key) VALUES ({source}, was, becomes);
    RETURN NULL;
END $revec$;

-- name: by_us
-- Our own hand in an adopted column is no change; unless a trigger of the user's made more of it. Compared for
-- our own writes only.
IF TG_OP = 'UPDATE' AND current_setting('revec.column', true) = {vector} THEN
        IF to_jsonb(OLD) - {vector} = to_jsonb(NEW) - {vector} THEN RETURN NULL; END IF;
    END IF;

-- name: vector
SELECT format('sha256(%%I.%%I(%%I))', n.nspname, t.typname || '_send', a.attname) AS hashed
  FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace
 WHERE a.attrelid = to_regclass(%(table)s) AND a.attname = %(vector)s AND NOT a.attisdropped
   AND t.typname IN ('vector', 'halfvec');

-- name: row_trigger
CREATE OR REPLACE TRIGGER {trigger} AFTER INSERT OR UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION {function}();

-- name: truncate_trigger
CREATE OR REPLACE TRIGGER {trigger} AFTER TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {function}();

-- name: missing_triggers
-- Sources whose triggers are gone or switched off.
SELECT s.id, s.name FROM revec.source s
 WHERE s.collection_id = %(collection)s AND s.mapping IS NOT NULL
   AND NOT EXISTS (SELECT FROM pg_trigger t
                    WHERE t.tgrelid = s.trigger_of AND t.tgname = 'revec_' || s.id || '_rows'
                      AND t.tgenabled IN ('O', 'A'));
