-- Stores elsewhere: where an index lives, and the points that have to go from there (docs/stores.md).

ALTER TABLE revec.index
    ADD store text NOT NULL DEFAULT 'pg',  -- an address without any secret
    ADD place text NOT NULL DEFAULT '',    -- the collection of points at it
    ADD CONSTRAINT index_place_check CHECK ((store = 'pg') = (place = '')),
    DROP CONSTRAINT index_kind_check,
    ADD CONSTRAINT index_kind_check CHECK (kind IN ('exact', 'hnsw', 'binary', 'native'));
ALTER TABLE revec.migration
    ADD store text NOT NULL DEFAULT 'pg',
    ADD place text NOT NULL DEFAULT '';

-- Points that the table of their index does not, or not yet, refer to. Those of a write that has begun come
-- before anything is put, and are taken away by its commit.
CREATE TABLE revec.tombstone (
    index_id  integer NOT NULL,
    point_id  uuid NOT NULL,
    due       timestamptz NOT NULL,            -- when it is to be deleted, or looked at again
    condemned boolean NOT NULL DEFAULT false,  -- the deletion may be under way: no write may refer to it
    PRIMARY KEY (index_id, point_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX tombstone_due ON revec.tombstone (index_id, due);

-- How far the walk through a store's points has come.
CREATE TABLE revec.sweep (
    index_id integer PRIMARY KEY,
    after    text NOT NULL DEFAULT '',  -- the store's own word for where the next page begins
    due      timestamptz NOT NULL,
    found    bigint NOT NULL DEFAULT 0  -- nobody's points, on this walk
);

SELECT revec.protect('revec.tombstone', 'private'), revec.protect('revec.sweep', 'private');
