"""Stories of reading: one request, one index, one model."""
