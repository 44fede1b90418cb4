-- What a key's holder may see, whatever he asks for: a filter (docs/filters.md), as it was written.
ALTER TABLE revec.api_key ADD COLUMN visible text;  -- NULL: everything that its tenant has
