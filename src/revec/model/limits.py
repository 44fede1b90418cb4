"""What one request may hold, whichever door it comes through."""

from __future__ import annotations

MOST_HITS = 1_000
LONGEST_QUERY = 4_096  # characters
LONGEST_FILTER = 8_192  # characters of JSON
LONGEST_NAME = 1_000  # characters
LONGEST_WAIT = 30.0  # seconds
MOST_DOCUMENTS = 1_000  # in a batch
