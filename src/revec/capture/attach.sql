-- name: relation
-- What the table is, and what we may do with it.
SELECT c.oid::regclass::text AS name, c.relkind = 'p' AS partitioned, c.relkind IN ('r', 'p') AS is_table,
       has_table_privilege(c.oid, 'SELECT') AS may_read,
       has_table_privilege(c.oid, 'TRIGGER') AS may_trigger,
       has_schema_privilege(c.relnamespace, 'USAGE') AS may_enter,
       c.relnamespace::regnamespace::text AS schema,
       row_security_active(c.oid) AS rows_hidden
  FROM pg_class c WHERE c.oid = to_regclass(%(table)s);

-- name: schema_of_name
SELECT nspname AS name, has_schema_privilege(oid, 'USAGE') AS may_enter
  FROM pg_namespace WHERE nspname = split_part(%(table)s, '.', 1);

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
SELECT relid::regclass::text AS name FROM pg_partition_tree(to_regclass(%(table)s)) WHERE isleaf;

-- name: lock_timeout
-- The user's writers queue behind us for no longer than this.
SELECT set_config('lock_timeout', '2s', true);

-- name: function
-- Appends and nothing else; as the schema's owner, so the table's writers need no rights here.
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $revec$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO revec.change (source_id, new_key) VALUES ({source}, {new_key});
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO revec.change (source_id, old_key, new_key) VALUES ({source}, {old_key}, {new_key});
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO revec.change (source_id, old_key) VALUES ({source}, {old_key});
    ELSE
        INSERT INTO revec.change (source_id) VALUES ({source});
    END IF;
    RETURN NULL;
END $revec$;

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
