-- Who judged, and who revoked a key. Of what was done before, and of grades out of files, nobody is known.
ALTER TABLE revec.judgement ADD who text;
ALTER TABLE revec.api_key ADD revoked_by text;

-- The audit reads from the newest on, a page at a time.
CREATE INDEX judgement_audit ON revec.judgement (at DESC) WHERE who IS NOT NULL;
CREATE INDEX migration_event_audit ON revec.migration_event (at DESC);
