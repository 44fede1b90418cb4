"""Looks at Revec's own house: triggers, sources, work, workers, roles."""

from __future__ import annotations

from revec.capture import attach
from revec.doctor.base import Case, Evidence, Look, Of, Severity, Subject
from revec.model.errors import Refused
from revec.postgres import schema
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)


async def uncaptured(conn: Connection, _look: Look, _case: Case, _subject: Subject) -> list[Evidence]:
    """Sources whose triggers are gone or switched off."""
    rows = await (await conn.execute(SQL.collections)).fetchall()
    return [
        {"collection": row.name, "source": source}
        for row in rows
        for source in await attach.missing(conn, row.id)
    ]


async def behind(conn: Connection, _look: Look, _case: Case, _subject: Subject) -> list[Evidence]:
    """Whether the schema is the one that this version of Revec knows."""
    try:
        lacking = await schema.pending(conn)
    except Refused as error:
        return [{"so": str(error), "way_out": "run the version of Revec that it names"}]
    if not lacking:
        return []
    names = ", ".join(file.name for file in lacking)
    return [{"so": f"Revec's tables lack {names}", "way_out": "`revec schema apply` brings them up to date"}]


CAPTURE_TRIGGERS = Look(
    of=Of.REVEC,
    severity=Severity.CRITICAL,
    query=SQL.collections,
    see=SQL.see_capture_triggers,
    ask=uncaptured,
    sentence="the triggers on {source} of collection {collection} are gone or switched off: nobody hears "
    "of its writes",
    do="`revec init` makes them again, and reads the table from its first row",
)
UNREADABLE_SOURCE = Look(
    of=Of.REVEC,
    severity=Severity.CRITICAL,
    query=SQL.unreadable_source,
    sentence="rows of {source} cannot be read for collection {collection}: {fault}",
    do="mend that, then `revec init`",
)
DEAD_LETTERS = Look(
    of=Of.REVEC,
    severity=Severity.WARNING,
    query=SQL.dead_letters,
    sentence="{found:,} documents of {collection} are dead letters of its index {index}, most for this: "
    "{cause}",
    do="`revec queue list` names them; mend them or their texts, then `revec queue retry`",
)
NO_WORKER = Look(
    of=Of.REVEC,
    severity=Severity.CRITICAL,
    query=SQL.no_worker,
    sentence="{found:,} documents wait to be embedded since {since} and no worker is seen",
    do="run `revec worker`",
)
DEAD_WORKER = Look(
    of=Of.REVEC,
    severity=Severity.WARNING,
    query=SQL.dead_worker,
    sentence="the worker on {host} (process {pid}) fell silent {minutes:,} minutes ago without a word: it "
    "was killed, or its host was",
    do="look at why it ended (out of memory?), and start it again: what it had in hand is done by others",
)
NO_CONDUCTOR = Look(
    of=Of.REVEC,
    severity=Severity.WARNING,
    query=SQL.no_conductor,
    sentence="the migration of {collection} is {state} and nobody conducts it: it neither goes on nor is "
    "it guarded",
    do="run `revec worker`: every worker conducts",
)
ONE_LAYER = Look(
    of=Of.REVEC,
    severity=Severity.WARNING,
    query=SQL.one_layer,
    sentence="one layer only keeps tenants apart: {login} could not make Revec's roles, so row security "
    "binds nobody",
    do="let {login} have CREATEROLE before Revec's schema is applied the first time; here, grant it "
    "revec_worker and revec_reader and apply the schema to a fresh database",
)
OPENED_TABLE = Look(
    of=Of.REVEC,
    severity=Severity.CRITICAL,
    query=SQL.opened_table,
    sentence="row security of revec.{table} {so}: a reader of one tenant may see the others' rows",
    do="ALTER TABLE revec.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; policies that are "
    "gone are in `revec schema print`",
)
OLD_SCHEMA = Look(
    of=Of.REVEC,
    severity=Severity.WARNING,
    query=schema.SQL.applied,
    ask=behind,
    sentence="{so}",
    do="{way_out}",
)
