-- The migration: its state, its history, its verdicts, and who is at work.

CREATE TABLE revec.migration (
    id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection_id integer NOT NULL REFERENCES revec.collection,
    old_index     integer REFERENCES revec.index,  -- NULL: the first fill
    new_index     integer REFERENCES revec.index,  -- NULL until it is registered
    state         text NOT NULL DEFAULT 'planned' CHECK (state IN (
        'planned', 'capturing', 'backfilling', 'indexing', 'verifying', 'shadowing', 'ready',
        'canary', 'live', 'finishing', 'finished', 'aborted')),
    target        text NOT NULL,
    space_id      text NOT NULL REFERENCES revec.space,
    query         jsonb NOT NULL,
    index_kind    text NOT NULL,
    gates         text[] NOT NULL,  -- required; fixed by `plan`
    paused_why    text,
    budget        numeric,          -- US dollars for embedding; NULL: no cap
    spent         numeric NOT NULL DEFAULT 0,
    hold          text,             -- latched; `cutover` refuses until a person clears it
    drop_after    timestamptz,
    cursor_tenant text NOT NULL DEFAULT '',
    cursor_id     bigint NOT NULL DEFAULT 0,
    cursor_done   boolean NOT NULL DEFAULT false,
    documents     bigint NOT NULL DEFAULT 0,
    seen          bigint NOT NULL DEFAULT 0,
    old_model_gone text,            -- why the old model no longer answers: rollback is lost
    old_model_seen timestamptz,     -- when it last answered its sentinel texts
    started_at    timestamptz NOT NULL DEFAULT now(),
    changed_at    timestamptz NOT NULL DEFAULT now()
);
-- Two migrations of one collection at once would each call the other's index the old one.
CREATE UNIQUE INDEX migration_one_at_a_time ON revec.migration (collection_id)
    WHERE state NOT IN ('finished', 'aborted');

CREATE TABLE revec.migration_event (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration_id integer NOT NULL REFERENCES revec.migration,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    who          text NOT NULL,
    was          text,
    became       text,  -- NULL where something happened within a state
    why          text NOT NULL,
    evidence     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX migration_event_of ON revec.migration_event (migration_id, id);

CREATE TABLE revec.verdict (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration_id   integer NOT NULL REFERENCES revec.migration,
    gate           text NOT NULL,
    outcome        text NOT NULL CHECK (outcome IN ('PASSED', 'FAILED', 'INCONCLUSIVE', 'NOT CONFIGURED')),
    why            text NOT NULL,
    evidence       jsonb NOT NULL DEFAULT '{}',
    at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    cleared_at     timestamptz,  -- a FAILED verdict stands until a person clears it
    cleared_reason text
);
CREATE INDEX verdict_of ON revec.verdict (migration_id, gate, id);

-- How far a backfill was, and when: the rate and the time left come from these.
CREATE TABLE revec.progress (
    migration_id integer NOT NULL REFERENCES revec.migration,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    done         bigint NOT NULL,
    PRIMARY KEY (migration_id, at)
);

-- Whoever ticks the conductor holds this, and says so again and again.
CREATE TABLE revec.lease (
    name   text PRIMARY KEY,
    holder uuid NOT NULL,
    until  timestamptz NOT NULL
);

CREATE TABLE revec.worker (
    id         uuid PRIMARY KEY,
    host       text NOT NULL,
    pid        integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    beat_at    timestamptz NOT NULL DEFAULT now()
);

SELECT revec.protect('revec.migration', 'private'), revec.protect('revec.migration_event', 'private'),
       revec.protect('revec.verdict', 'private'), revec.protect('revec.progress', 'private'),
       revec.protect('revec.lease', 'private'), revec.protect('revec.worker', 'private');

-- The worker's role draws revisions and writes identity columns through these alone.
DO $$ BEGIN
    IF (SELECT two_layers FROM revec.installation) THEN
        GRANT SELECT, USAGE ON ALL SEQUENCES IN SCHEMA revec TO revec_worker;
    END IF;
END $$;
