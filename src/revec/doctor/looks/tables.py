"""Looks at how tables lie on the disk, and at the disk."""

from __future__ import annotations

from revec.doctor.base import Case, Evidence, Look, NotHere, Of, Severity, Subject
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
TIGHT = 2  # times the vectors of today: a migration writes as much again, and a build sorts beside it


async def room(_conn: Connection, _look: Look, case: Case, _subject: Subject) -> list[Evidence]:
    """Whether a migration would find room; by the disk, where it is this machine's.

    Raises:
        NotHere: the server is elsewhere, and tells nobody of its disk.
    """
    if case.free_bytes is None:
        raise NotHere("a server elsewhere does not tell of its disk: look at the monitoring of its host")
    most = max((each.bytes for each in case.columns), default=0)
    free, wanted = round(case.free_bytes / 2**30, 1), round(TIGHT * most / 2**30, 1)
    return [{"free_gib": free, "wanted_gib": wanted}] if case.free_bytes < TIGHT * most else []


DEAD_ROWS = Look(
    of=Of.DATABASE,
    severity=Severity.WARNING,
    query=SQL.dead_rows,
    see=SQL.see_dead_rows,
    sentence="{dead:,} rows of {table} are dead ({percent}%) and not vacuumed away: scans read them too",
    do="VACUUM {table}; where autovacuum cannot keep up, look for old transactions first, then lower its "
    "autovacuum_vacuum_scale_factor",
)
TOASTED_VECTORS = Look(
    of=Of.COLUMN,
    severity=Severity.NOTE,
    needs=("dims",),
    query=SQL.toasted_vectors,
    by_catalog=True,
    sentence="vectors of {subject} ({bytes:,} bytes) lie outside their rows: an exact scan takes about "
    "three times as long as beside them",
    do="nothing, if searches are fast enough; else ALTER TABLE … ALTER COLUMN … SET STORAGE PLAIN and "
    "write the table anew, or use halfvec, which is half as large",
)
DISK = Look(
    of=Of.DATABASE,
    severity=Severity.WARNING,
    ask=room,
    sentence="{free_gib} GiB of disk are free, and moving the largest column of vectors to another model "
    "may take {wanted_gib}",
    do="make room before a migration is started: `revec plan` says how much it takes",
)
