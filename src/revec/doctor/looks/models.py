"""Looks at the models: will they answer next year, and are they still the ones that made the index?"""

from __future__ import annotations

from revec.doctor.base import Case, Evidence, Look, NotHere, Of, Severity, Subject
from revec.migrate.watch import EVERY
from revec.postgres.database import Connection
from revec.postgres.queries import beside

SQL = beside(__file__)
SOON, LATER = 30, 365  # days


async def in_use(conn: Connection, case: Case) -> dict[str, str]:
    """Models that somebody named or that indexes are kept current by → where."""
    used = dict.fromkeys(case.models, "")
    if case.installed and not case.not_ours:
        rows = await (await conn.execute(SQL.models_in_use)).fetchall()
        used |= {row.model: f" ({row.collection})" for row in rows}
    return used


async def announced(conn: Connection, _look: Look, case: Case, _subject: Subject) -> list[Evidence]:
    """Models that were or will be switched off, by what their provider announced.

    Raises:
        NotHere: nobody knows which model is used.
    """
    if not (used := await in_use(conn, case)):
        raise NotHere("no model is known here: name it with --model")
    found: list[Evidence] = []
    for model, where in used.items():
        if (day := case.shutdown_of(model)) is None or (days := (day - case.today).days) > LATER:
            continue
        found.append(
            {
                "model": model,
                "where": where,
                "day": f"{day:%Y-%m-%d}",
                "days": days,
                "so": "was switched off" if days <= 0 else "will be switched off",
                "severity": Severity.CRITICAL if days <= SOON else Severity.WARNING,
            }
        )
    return found


MODEL_SHUTDOWN = Look(
    of=Of.DATABASE,
    severity=Severity.WARNING,
    ask=announced,
    sentence="your model {model}{where} {so} on {day}: after that no query can be embedded for what it "
    "made, and nothing can be rolled back to it",
    do="`revec plan NAME --to MODEL` shows what moving to another model takes; begin while the old one "
    "still answers",
)
DISTRUSTED_MODEL = Look(
    of=Of.REVEC,
    severity=Severity.CRITICAL,
    query=SQL.distrusted_model,
    sentence="nothing is written to the index of {collection} by {model} any more: {fault}",
    do="migrate to what the model is now (`revec start {collection} --to MODEL`), or clear it once you "
    "have looked: `revec resume {collection}`",
)
RESTING_MODEL = Look(
    of=Of.REVEC,
    severity=Severity.WARNING,
    query=SQL.resting_model,
    sentence="{model} failed {failures:,} times and has not answered since: {why}",
    do="mend what it says, then `revec providers reset {model}`",
)
UNWATCHED_MODEL = Look(
    of=Of.REVEC,
    severity=Severity.WARNING,
    query=SQL.unwatched_model,
    more={"stale": 24 * EVERY},
    sentence="{model} was last asked {hours:,} hours ago whether it is still the model that made the "
    "index: a provider that changed it spoils the index row by row",
    do="run `revec worker`, which asks every hour; `revec check` and `revec verify` look at what is written",
)
