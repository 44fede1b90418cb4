-- Canary, guard, orders and what is told of them.

-- A share of the requests is answered by another index than the one that serves.
ALTER TABLE revec.route
    ADD canary integer REFERENCES revec.index,
    ADD share  float8 NOT NULL DEFAULT 0 CHECK (share BETWEEN 0 AND 1),
    ADD CHECK (canary IS NOT NULL OR share = 0),
    ADD CHECK (canary <> serving);

-- Where a sticky key falls in [0, 1). The candidate's number is the salt: those who are first this time are
-- others the next time, and a larger share contains every smaller one.
CREATE FUNCTION revec.place(candidate integer, sticky text) RETURNS float8
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT ('x' || left(encode(sha256(convert_to(candidate || ':' || sticky, 'UTF8')), 'hex'), 13))::bit(52)::bigint
           / 4503599627370496.0::float8
$$;

-- Tenants that are answered by an index of their own, as of one epoch: one flip voids them all, but for those
-- that the flip itself writes anew.
CREATE TABLE revec.override (
    collection_id integer NOT NULL REFERENCES revec.collection,
    tenant        text NOT NULL,
    epoch         bigint NOT NULL,
    index_id      integer NOT NULL REFERENCES revec.index,
    PRIMARY KEY (collection_id, tenant)
);

-- Shares that the conductor goes through by itself, each after so many quiet answers of the new index.
CREATE TABLE revec.canary (
    migration_id integer PRIMARY KEY REFERENCES revec.migration,
    steps        float8[] NOT NULL,            -- that are still to come
    quiet        integer NOT NULL CHECK (quiet > 0),
    answered     bigint NOT NULL DEFAULT 0,    -- at the present share
    epoch        bigint NOT NULL               -- of the present share
);

ALTER TABLE revec.migration
    ADD approvals      integer NOT NULL DEFAULT 1 CHECK (approvals IN (1, 2)),  -- people that a cutover takes
    ADD guard_dead     text NOT NULL DEFAULT 'alarm' CHECK (guard_dead IN ('alarm', 'rollback')),
    ADD guarded_back_at timestamptz;  -- a guard rolled it back: once, and never again

-- A cutover that waits for its hour, for a second person, or for both.
CREATE TABLE revec.cutover_order (
    migration_id integer PRIMARY KEY REFERENCES revec.migration,
    due_at       timestamptz NOT NULL,
    ordered_by   text NOT NULL,
    ordered_at   timestamptz NOT NULL DEFAULT now(),
    why          text NOT NULL,
    approved_by  text,
    approved_at  timestamptz
);

-- What each index answered, told by the serving processes second by second; lost in a crash, and no loss.
CREATE UNLOGGED TABLE revec.traffic (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    index_id integer NOT NULL,
    epoch    bigint NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    requests integer NOT NULL,
    errors   integer NOT NULL,   -- also answers by the words alone: the model failed
    timeouts integer NOT NULL,
    empties  integer NOT NULL,
    ms       real[] NOT NULL,    -- a sample of how long they took
    counted  boolean NOT NULL DEFAULT false  -- by the guard
);
CREATE INDEX traffic_at ON revec.traffic (at);
CREATE INDEX traffic_uncounted ON revec.traffic (index_id) WHERE NOT counted;

-- What a guard knows of a migration: an e-process over requests, or since when something is wrong.
CREATE TABLE revec.guard (
    migration_id integer NOT NULL REFERENCES revec.migration,
    name         text NOT NULL,
    watch        jsonb,                -- of requests; NULL where nothing is counted
    bar          float8,               -- milliseconds that are slow
    fired_at     timestamptz,          -- latched until a person clears the hold
    why          text,
    told_at      timestamptz,          -- the history has heard of it
    PRIMARY KEY (migration_id, name)
);

-- That somebody watches.
CREATE TABLE revec.guard_beat (
    migration_id integer PRIMARY KEY REFERENCES revec.migration,
    at           timestamptz NOT NULL DEFAULT now()
);

-- Moves that a webhook is still to hear of. Written with the move, sent behind it, kept until it was heard.
CREATE TABLE revec.outbox (
    event_id   bigint PRIMARY KEY REFERENCES revec.migration_event ON DELETE CASCADE,
    attempts   integer NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL DEFAULT now(),
    trouble    text
);
CREATE FUNCTION revec.migration_told() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO revec.outbox (event_id) VALUES (NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER told AFTER INSERT ON revec.migration_event
    FOR EACH ROW WHEN (NEW.became IS NOT NULL OR NEW.evidence ?| ARRAY['users', 'guard'])
    EXECUTE FUNCTION revec.migration_told();

SELECT revec.protect('revec.override', 'private'), revec.protect('revec.canary', 'private'),
       revec.protect('revec.cutover_order', 'private'), revec.protect('revec.traffic', 'private'),
       revec.protect('revec.guard', 'private'), revec.protect('revec.guard_beat', 'private'),
       revec.protect('revec.outbox', 'private');
