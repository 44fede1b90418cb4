"""The doctor: looks at a database, with Revec's tables or without, and changes nothing."""
