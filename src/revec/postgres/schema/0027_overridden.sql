-- Required gates that a person lets count as passed: gate → {reason, stood}, what it had said then. A failure
-- that was not known then takes it back.
ALTER TABLE revec.migration ADD overridden jsonb NOT NULL DEFAULT '{}';
