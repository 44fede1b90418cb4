"""Looks at the other sessions: what keeps vacuum from its work, and what a pooler does to it."""

from __future__ import annotations

from revec.doctor.base import Case, Evidence, Look, NotHere, NotLooked, Of, Severity, Subject, by_query
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)


async def as_a_reader_of_statistics(
    conn: Connection, look: Look, case: Case, subject: Subject
) -> list[Evidence]:
    """
    Raises:
        NotLooked: others' sessions are hidden from this login.
    """
    if not case.sees_sessions:
        raise NotLooked(
            f"{case.login} may not see the sessions of others: GRANT pg_read_all_stats TO {case.login}"
        )
    return await by_query(conn, look, case, subject)


async def in_front(_conn: Connection, _look: Look, case: Case, _subject: Subject) -> list[Evidence]:
    return [{"mode": case.pooler}] if case.pooler else []


async def behind_a_pooler(conn: Connection, look: Look, case: Case, subject: Subject) -> list[Evidence]:
    """
    Raises:
        NotHere: without one, a session's locks are its client's own affair.
    """
    if case.pooler != "transaction":
        raise NotHere("no pooler in transaction mode is in front")
    return await as_a_reader_of_statistics(conn, look, case, subject)


LONG_TRANSACTION = Look(
    of=Of.DATABASE,
    severity=Severity.WARNING,
    query=SQL.long_transactions,
    see=SQL.see_long_transactions,
    ask=as_a_reader_of_statistics,
    sentence="{who} is {state} in one transaction for {seconds:,} s: vacuum removes nothing that died "
    "since, and every queue and index grows",
    do="end it ({way_out}), and set idle_in_transaction_session_timeout",
)
OLD_SNAPSHOT = Look(
    of=Of.DATABASE,
    severity=Severity.WARNING,
    query=SQL.old_snapshot,
    see=SQL.see_long_transactions,
    sentence="{who} still sees the database as it was {transactions:,} transactions ago: nothing that "
    "died since is vacuumed away",
    do="end it: {way_out}",
)
ABANDONED_SLOT = Look(
    of=Of.DATABASE,
    severity=Severity.CRITICAL,
    query=SQL.abandoned_slots,
    sentence="nobody reads replication slot {slot} ({type}), and the server keeps {size} of its log for "
    "it: the disk fills until the server stops",
    do="let its reader come back, or SELECT pg_drop_replication_slot('{slot}'); max_slot_wal_keep_size "
    "puts a limit to it",
)
POOLER = Look(
    of=Of.DATABASE,
    severity=Severity.NOTE,
    query=SQL.pooled,
    ask=in_front,
    sentence="a pooler in {mode} mode is in front. Revec works through it; in transaction mode session "
    "settings, LISTEN, session locks and (before PgBouncer 1.21) prepared statements do not",
    do="nothing for Revec; in your own code use SET LOCAL and set_config(…, true) inside transactions, "
    "and switch the driver's prepared statements off",
)
SESSION_LOCKS = Look(
    of=Of.DATABASE,
    severity=Severity.WARNING,
    query=SQL.session_locks,
    see=SQL.see_session_locks,
    ask=behind_a_pooler,
    sentence="{found:,} session-level advisory locks are held by idle sessions of a pooler: their clients "
    "are likely gone, and whoever waits for them waits for ever",
    do="use pg_advisory_xact_lock, which ends with its transaction; SELECT pg_terminate_backend({pid}) "
    "lets these go",
)
