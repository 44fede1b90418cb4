"""Looks at the versions of the server and of pgvector."""

from __future__ import annotations

from revec.doctor.base import Look, Of, Severity
from revec.postgres.database import MINIMUM_SERVER
from revec.postgres.queries import beside

SQL = beside(__file__)

OLD_SERVER = Look(
    of=Of.DATABASE,
    severity=Severity.CRITICAL,
    query=SQL.old_server,
    more={"minimum": MINIMUM_SERVER},
    sentence="the server is PostgreSQL {version}; Revec needs {needed} or newer",
    do="update the server",
)
OLD_PGVECTOR = Look(
    of=Of.DATABASE,
    severity=Severity.WARNING,
    query=SQL.old_pgvector,
    see=SQL.see_pgvector,
    sentence="{so}",
    do="{way_out}",
)
