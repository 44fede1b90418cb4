-- Run-time control: how fast a backfill may go, which sources are held back, and what it does to others.

-- What a person allows a collection's work; NULL: as much as each worker was started with. The backfill's
-- documents a second are a bucket in revec.quota ('collection:' and the id, 'documents'), shared by all.
CREATE TABLE revec.throttle (
    collection_id integer PRIMARY KEY REFERENCES revec.collection,
    concurrency   integer CHECK (concurrency > 0),  -- claims at once, of each worker
    claim         integer CHECK (claim > 0),        -- documents in a claim
    set_by        text NOT NULL,
    set_at        timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE revec.source ADD COLUMN paused_why text;  -- a person holds its changes back

-- How long things took in the last minutes, sampled: 'search' of a collection, the 'database' as seen
-- from a host, and 'backfill' where one was under way (no times: it only says when).
CREATE UNLOGGED TABLE revec.pulse (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('search', 'database', 'backfill')),
    name text NOT NULL,
    at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    ms   real[] NOT NULL
);
CREATE INDEX pulse_at ON revec.pulse (at);

-- The same in quiet times: what the brake compares with.
CREATE TABLE revec.calm (
    kind text NOT NULL,
    name text NOT NULL,
    ms   float8 NOT NULL,
    n    integer NOT NULL,
    at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name)
);

ALTER TABLE revec.worker
    ADD COLUMN claims     integer NOT NULL DEFAULT 0,  -- in hand
    ADD COLUMN per_second float8 NOT NULL DEFAULT 0,   -- documents, over the last minute
    ADD COLUMN rss_mb     float8,
    ADD COLUMN speed      float8 NOT NULL DEFAULT 1,   -- of its backfill: what the brake leaves of it
    ADD COLUMN braked_by  text;

SELECT revec.protect('revec.throttle', 'private'), revec.protect('revec.pulse', 'private'),
       revec.protect('revec.calm', 'private');
