-- Batches: texts of a patient backfill that a provider works on within a day, for half the price.

ALTER TABLE revec.migration ADD patient boolean NOT NULL DEFAULT false;

-- Written down before anything is sent. `mark` is in the batch's metadata at the provider: one whose id
-- was lost by a crash is found by it, and not submitted twice.
CREATE TABLE revec.batch (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mark         uuid NOT NULL UNIQUE,
    index_id     integer NOT NULL,
    migration_id integer NOT NULL,
    state        text NOT NULL DEFAULT 'intended' CHECK (state IN (
        'intended',    -- nothing costs yet
        'submitting',  -- the provider may have it
        'submitted',   -- the provider has it
        'collected',   -- what it answered is paid for and kept, and being written
        'done')),
    call         bigint NOT NULL,   -- its line in the ledger
    model        text NOT NULL,
    documents    integer NOT NULL,
    inputs       integer NOT NULL,
    tokens       bigint NOT NULL,   -- as counted before
    dollars      numeric,           -- what they will cost at most; NULL: nobody knows
    file         text,              -- the provider's names: of the texts,
    provider_id  text,              -- and of the batch
    answered     integer NOT NULL DEFAULT 0,
    why          text,              -- it ended otherwise than well
    intended_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    submitted_at timestamptz,       -- when it was, or may have been
    look_at      timestamptz NOT NULL DEFAULT clock_timestamp(),  -- again
    ended_at     timestamptz        -- the provider has nothing of it any more, or nothing that we want
);
CREATE INDEX batch_open ON revec.batch (index_id) WHERE state <> 'done';

-- Which texts of which documents are in a batch that is not done; a document is in one at a time.
CREATE TABLE revec.batch_member (
    index_id   integer NOT NULL,
    doc_id     bigint NOT NULL,
    text_hash  bytea NOT NULL,
    batch_id   bigint NOT NULL REFERENCES revec.batch,
    rev        bigint NOT NULL,
    input_hash bytea NOT NULL,
    answered   boolean NOT NULL DEFAULT false,
    refused    text,  -- the provider's cause
    PRIMARY KEY (index_id, doc_id, text_hash)
);
CREATE INDEX batch_member_text ON revec.batch_member (batch_id, text_hash);

-- Work that waits for a batch, or is in one, is not due before the end of time.
CREATE INDEX work_waiting ON revec.work (index_id, rank, tenant, doc_id) WHERE not_before = 'infinity';

SELECT revec.protect('revec.batch', 'private'), revec.protect('revec.batch_member', 'private');
