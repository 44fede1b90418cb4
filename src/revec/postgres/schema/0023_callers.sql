-- Callers: SQL functions of the users' own that search a collection, and what they stand on (docs/callers.md).
-- They run as whoever calls them, who needs no rights here: their bodies were parsed when they were made, so
-- nobody needs USAGE on this schema to call one, and without it nobody can call `revec.nearest` himself.

CREATE TABLE revec.caller (
    function      text PRIMARY KEY,  -- as regprocedure writes it
    collection_id integer NOT NULL REFERENCES revec.collection,
    home          text REFERENCES revec.space,  -- whose scores it speaks in; NULL: those of each space
    says_space    boolean NOT NULL,  -- it can be told which space a vector is of
    made_at       timestamptz NOT NULL DEFAULT now()
);

-- Equal ranks of two spaces: as many pairs of documents reach the n-th score of one as reach that of the other.
CREATE TABLE revec.scale (
    collection_id integer NOT NULL REFERENCES revec.collection,
    home          text NOT NULL REFERENCES revec.space,
    space_id      text NOT NULL REFERENCES revec.space,
    home_scores   float8[] NOT NULL,  -- both ascend, from -1 to 1
    scores        float8[] NOT NULL,
    pairs         integer NOT NULL,   -- that they were learned from
    at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection_id, home, space_id),
    CHECK (cardinality(home_scores) = cardinality(scores) AND cardinality(scores) >= 2)
);
SELECT revec.protect('revec.caller', 'private'), revec.protect('revec.scale', 'shared');

-- Every index that a vector may be meant for. The one place that knows where its rows are: a relation with
-- doc_id, tenant and embedding, another (`counted`) that is counted without a look at a user's table, and SQL for
-- how far a row `v` of it is from the vector $1: by the vectors themselves, and as its graph is ordered (of an
-- adopted column the user's own graph, in the column's own type).
-- `waits`: why it cannot answer yet; from the registration on it counts all the same when a vector's size is
-- looked up, so that no answer changes in the middle of a backfill.
CREATE VIEW revec.destination AS
SELECT c.name AS collection, i.collection_id, i.id AS index_id, i.space_id,
       (s.recipe->>'provider') || ':' || (s.recipe->>'model') AS model, (s.recipe->>'dims')::integer AS dims,
       i.query, i.kind, format('revec.vectors_%s', i.id) AS relation,
       format(CASE WHEN a.index_id IS NULL THEN 'revec.vectors_%s' ELSE 'revec.ledger_%s' END, i.id) AS counted,
       format('v.embedding OPERATOR(%1$s.<=>) $1::%1$s.halfvec', e.path) AS distance,
       CASE
       WHEN a.operator IS NOT NULL THEN format('v.own OPERATOR(%1$s.%2$s) $1::%1$s.%3$s', e.path, a.operator, a.type)
       WHEN i.kind = 'binary' THEN format('%1$s.binary_quantize(v.embedding)::bit(%2$s) OPERATOR(%1$s.<~>) '
                                          '%1$s.binary_quantize($1::%1$s.halfvec)::bit(%2$s)', e.path, s.recipe->>'dims')
       ELSE format('v.embedding OPERATOR(%1$s.<=>) $1::%1$s.halfvec', e.path) END AS nearness,
       CASE i.id WHEN r.serving THEN 'serves' WHEN r.previous THEN 'served before' ELSE 'is new' END AS standing,
       CASE
       WHEN i.store <> 'pg' THEN 'lives in ' || i.store || ', where SQL cannot look: ask over HTTP'
       WHEN i.id IN (r.serving, r.previous) THEN NULL
       WHEN m.state IN ('planned', 'capturing', 'backfilling') THEN 'is being filled'
       WHEN m.state = 'indexing' THEN 'is being built'
       WHEN m.state = 'verifying' THEN 'is being verified'
       WHEN i.fault IS NOT NULL THEN 'is not trusted: ' || i.fault
       END AS waits
  FROM revec.index i
       JOIN revec.collection c ON c.id = i.collection_id
       JOIN revec.route r ON r.collection_id = i.collection_id
       JOIN revec.space s ON s.id = i.space_id
       LEFT JOIN revec.adopted a ON a.index_id = i.id
       LEFT JOIN revec.migration m ON m.new_index = i.id AND m.state NOT IN ('finished', 'aborted')
       CROSS JOIN (SELECT extnamespace::regnamespace AS path FROM pg_extension WHERE extname = 'vector') AS e
 WHERE i.dropped_at IS NULL AND to_regclass(format('revec.vectors_%s', i.id)) IS NOT NULL;

-- Parsed here and now, so that wherever the extension lives it is found by functions without a search_path.
CREATE FUNCTION revec.dims_of(query vector) RETURNS integer LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC SELECT vector_dims($1); END;
CREATE FUNCTION revec.length_of(query vector) RETURNS float8 LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC SELECT vector_norm($1); END;

-- A score of one scale on another: between the two ranks that it lies between.
CREATE FUNCTION revec.rescaled(score float8, scale float8[], other float8[]) RETURNS float8
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT other[n] + (least(1, greatest(-1, score)) - scale[n]) * (other[n + 1] - other[n]) / (scale[n + 1] - scale[n])
      FROM (SELECT greatest(1, least(width_bucket(score, scale), cardinality(scale) - 1)) AS n) AS below;
END;

-- The index that a vector is meant for: by the space that is said, else by its size; never by a guess.
CREATE FUNCTION revec.destination_of(of_collection text, query vector, in_space text) RETURNS revec.destination
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := revec.dims_of(query);
    fits revec.destination[];
    spaces bigint;
    known text;
BEGIN
    SELECT array_agg(a ORDER BY a.waits IS NULL DESC, a.standing = 'serves' DESC, a.standing = 'is new')
               FILTER (WHERE fit.fits),
           count(DISTINCT a.space_id) FILTER (WHERE fit.fits),
           string_agg(format('%s (%s dims, %s; space %s)', a.model, a.dims,
                             coalesce(nullif(a.standing, 'is new'), a.waits, a.standing), a.space_id),
                      ' and ' ORDER BY a.index_id)
      INTO fits, spaces, known
      FROM revec.destination a,
           LATERAL (SELECT a.dims = size AND (in_space IS NULL OR in_space IN (a.space_id, a.model)) AS fits) AS fit
     WHERE a.collection = of_collection;
    IF spaces = 0 OR spaces IS NULL THEN
        RAISE EXCEPTION 'the query has % dims%, and % is searched in %', size,
            coalesce(' and is said to be of ' || in_space, ''), of_collection, coalesce(known, 'nothing yet')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Embed it by one of these models; the one that serves is right for everybody.';
    ELSIF spaces > 1 THEN
        RAISE EXCEPTION 'a query of % dims may be of several spaces, and % is searched in %', size, of_collection,
            known
            USING ERRCODE = 'ambiguous_parameter', HINT = 'Say which: the model or the space, as the argument for it.';
    ELSIF fits[1].waits IS NOT NULL THEN
        RAISE EXCEPTION '% %: % is searched in %', fits[1].model, fits[1].waits, of_collection, known
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Go on with the model that serves, until `revec status` says ready.';
    END IF;
    RETURN fits[1];
END $$;

-- The nearest documents of one source and tenant, that are there now, best first; at least `threshold`, on the
-- scale of `home`, as the scores are. The same walk as stores/pgvector.py, here for callers who have SQL only:
-- a small tenant wholly; else by the graph, deeper until there is enough; wholly, where the walk ends early.
-- A vector of zeros, NaN from everything, is left out: NaN would sort above every score, and reach every threshold.
-- Whatever is set is set back: the transaction is the caller's.
CREATE FUNCTION revec.nearest(
    of_collection text, of_source text, query vector, of_tenant text, threshold float8, most integer,
    in_space text, in_home text
) RETURNS TABLE (place bigint, key text, score float8)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 20 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    spare CONSTANT integer := 10;             -- beyond what is wanted, for documents that have gone
    small_tenant CONSTANT integer := 5000;    -- rows
    most_chunks CONSTANT integer := 20000;    -- that a walk goes
    there revec.destination;
    scale revec.scale;
    source integer;
    lowest float8 := threshold;
    wanted integer := least(coalesce(most, most_chunks), 1000000);
    times integer := 1;  -- chunks to look at for each that is wanted
    depth integer;
    exactly boolean;
    was text[];
    walk text;
    ids bigint[];
    keys text[];
    scores float8[];
    documents bigint;
    chunks bigint;
    worst float8;
BEGIN
    IF query IS NULL OR of_tenant IS NULL OR wanted <= 0 THEN
        RETURN;
    END IF;
    IF revec.length_of(query) = 0 THEN
        RAISE EXCEPTION 'the query is a vector of zeros, which is near to nothing'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    there := revec.destination_of(of_collection, query, in_space);
    IF in_home <> there.space_id THEN
        SELECT * INTO scale FROM revec.scale s
         WHERE s.collection_id = there.collection_id AND s.home = in_home AND s.space_id = there.space_id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'nobody knows yet what a score of % is worth in %', in_home, there.space_id
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'A worker learns it once the new index is verified: `revec status` shows how far it is.';
        END IF;
        lowest := revec.rescaled(threshold, scale.home_scores, scale.scores);
    END IF;
    SELECT s.id INTO source FROM revec.source s
     WHERE s.collection_id = there.collection_id AND s.name = of_source;

    was := ARRAY[current_setting('revec.tenant', true), current_setting('hnsw.iterative_scan', true),
                 current_setting('hnsw.ef_search', true), current_setting('enable_sort')];
    PERFORM set_config('revec.tenant', of_tenant, true), set_config('hnsw.iterative_scan', 'relaxed_order', true);
    exactly := there.kind = 'exact';
    IF NOT exactly THEN
        EXECUTE format('SELECT count(*) <= $2 FROM (SELECT FROM %s v WHERE v.tenant = $1 LIMIT $2 + 1) AS counted',
                       there.counted) INTO exactly USING of_tenant, small_tenant;
    END IF;
    IF there.kind = 'binary' THEN
        times := greatest(2, 16384 / there.dims);
    END IF;
    depth := wanted + spare;
    IF NOT exactly AND times > 1 THEN
        depth := greatest(200, least(times * depth, most_chunks));
    END IF;
    LOOP
        IF depth > most_chunks AND NOT exactly THEN
            exactly := true;
            depth := wanted + spare;
        END IF;
        IF exactly THEN  -- MATERIALIZED keeps the planner off the graph
            walk := 'WITH near AS MATERIALIZED (SELECT v.doc_id, %s AS distance FROM %s v WHERE v.tenant = $2) '
                    'SELECT near.doc_id, 1 - min(near.distance) AS score, 0 AS chunks FROM near '
                    'GROUP BY near.doc_id HAVING min(near.distance) <> ''NaN'' ORDER BY 2 DESC, 1 LIMIT $3';
        ELSE
            walk := 'SELECT near.doc_id, 1 - min(near.distance) AS score, count(*) AS chunks '
                    'FROM (SELECT v.doc_id, %s AS distance FROM %s v WHERE v.tenant = $2 '
                    'ORDER BY %s LIMIT $3) AS near GROUP BY near.doc_id HAVING min(near.distance) <> ''NaN''';
            PERFORM set_config('hnsw.ef_search', greatest(400, least(1000, depth))::text, true),
                    set_config('enable_sort', CASE there.kind WHEN 'binary' THEN 'off' ELSE was[4] END, true);
        END IF;
        EXECUTE format(
            'SELECT array_agg(d.id), array_agg(d.key), array_agg(near.score), count(*), sum(near.chunks), '
            'min(near.score) FROM (' || walk || ') AS near '
            'LEFT JOIN revec.document d ON d.id = near.doc_id AND d.tenant = $2 AND d.source_id = $4',
            there.distance, there.relation, there.nearness)
           INTO ids, keys, scores, documents, chunks, worst USING query, of_tenant, depth, source;
        PERFORM set_config('enable_sort', was[4], true);
        EXIT WHEN cardinality(array_remove(ids, NULL)) >= wanted
                  AND (exactly OR documents >= times * wanted OR depth * 4 > most_chunks);
        EXIT WHEN exactly AND (documents < depth OR worst < lowest);
        EXIT WHEN NOT exactly AND times = 1 AND worst < lowest;
        IF NOT exactly AND coalesce(chunks, 0) < depth THEN
            depth := most_chunks;  -- it saw all, or as much as a walk may: nobody can tell
        END IF;
        depth := depth * 4;
    END LOOP;
    PERFORM set_config('revec.tenant', coalesce(was[1], ''), true), set_config('hnsw.iterative_scan', was[2], true),
            set_config('hnsw.ef_search', was[3], true);

    RETURN QUERY
    SELECT row_number() OVER (ORDER BY hit.score DESC, hit.id), hit.key,
           coalesce(revec.rescaled(hit.score, scale.scores, scale.home_scores), hit.score)
      FROM unnest(ids, keys, scores) AS hit (id, key, score)
     WHERE hit.id IS NOT NULL AND (lowest IS NULL OR hit.score >= lowest)
     ORDER BY 1 LIMIT wanted;
END $$;

-- By which model a caller's query is to be embedded now, and how.
CREATE FUNCTION revec.asked_by(of_collection text, of_tenant text)
RETURNS TABLE (model text, dims integer, space text, prefix text, task text)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
    SELECT i.query->>'address', (s.recipe->>'dims')::integer, s.id, i.query->>'prefix', i.query->>'task'
      FROM revec.collection c
           JOIN revec.route r ON r.collection_id = c.id
           LEFT JOIN revec.override o ON o.collection_id = c.id AND o.tenant = of_tenant AND o.epoch = r.epoch
           JOIN revec.index i ON i.id = coalesce(o.index_id, r.serving)
           JOIN revec.space s ON s.id = i.space_id
     WHERE c.name = of_collection
$$;

-- Where there are roles, `nearest` reads as the one that row security holds to one tenant: two layers.
DO $$ BEGIN
    IF (SELECT two_layers FROM revec.installation) THEN
        GRANT SELECT ON revec.destination TO revec_reader;
        GRANT CREATE ON SCHEMA revec TO revec_reader;  -- to own a function there, for this moment
        ALTER FUNCTION revec.nearest OWNER TO revec_reader;
        REVOKE CREATE ON SCHEMA revec FROM revec_reader;
    END IF;
END $$;
