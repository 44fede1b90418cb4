"""Looks at the texts that the vectors should be of."""

from __future__ import annotations

from revec.doctor.base import Look, Of, Severity
from revec.postgres.queries import beside

SQL = beside(__file__)

MISSING_TEXTS = Look(
    of=Of.COLUMN,
    severity=Severity.WARNING,
    needs=("text",),
    query=SQL.missing_texts,
    see=SQL.all_missing_texts,
    sentence="{found:,} of {n:,} rows of {subject} have a vector and no text in {text}: what it is of is "
    "gone, and no new model can embed it",
    do="bring the texts back, or remove these vectors: nobody can say that they are right",
)
ROWS_WITHOUT_VECTORS = Look(
    of=Of.COLUMN,
    severity=Severity.WARNING,
    needs=("text",),
    query=SQL.rows_without_vectors,
    see=SQL.all_rows_without_vectors,
    sentence="{found:,} of {n:,} rows with a text ({percent}%) have no vector in {subject}: no search "
    "finds them",
    do="embed them, and find out why nobody did: a write that failed half way, or a backfill that ended "
    "early; `revec init` captures a table so that no write is missed",
)
