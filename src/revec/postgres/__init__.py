"""Our records: always Postgres, no twin in memory. SQL lives beside the module that runs it."""
