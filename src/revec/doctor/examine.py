"""All looks, one after another, each in a read-only transaction of its own that cannot take long."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from psycopg import AsyncClientCursor
from psycopg.rows import namedtuple_row

from revec.doctor.base import (
    WHOLE,
    Case,
    Column,
    Evidence,
    Graph,
    Look,
    NotHere,
    NotLooked,
    Severity,
    Subject,
    filled,
    looks,
    parameters,
    subjects,
)
from revec.doctor.guarded import guarded
from revec.postgres.database import Connection


class Outcome(StrEnum):
    CLEAN = "clean"
    FOUND = "found"
    NOT_LOOKED = "not looked at"  # it might be there: never a pass
    NOT_HERE = "nothing to look at"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, by what was seen of it."""

    name: str
    severity: Severity
    subject: str | None  # a column or an index; None: the database
    sentence: str
    evidence: Evidence
    sql: str  # that shows it; empty where no SQL does
    do: str


@dataclass(frozen=True, slots=True)
class Looked:
    """What became of one look at one thing."""

    name: str
    subject: str | None
    outcome: Outcome
    ms: float
    why: str | None = None  # it was not looked at, or there was nothing
    n: int | None = None  # rows or vectors that were looked at
    of: int | None = None  # as the server last counted; None: it never did, or they are no rows


@dataclass(frozen=True, slots=True)
class Report:
    case: Case
    findings: Sequence[Finding]  # the severest first
    looked: Sequence[Looked]
    seconds: float

    def worst(self) -> Severity | None:
        return self.findings[0].severity if self.findings else None

    def blind(self) -> list[Looked]:
        """What nobody can vouch for."""
        return [each for each in self.looked if each.outcome is Outcome.NOT_LOOKED]

    def count(self, severity: Severity) -> int:
        return sum(finding.severity is severity for finding in self.findings)


@dataclass(slots=True)
class Examination:
    """One go through all looks."""

    conn: Connection
    case: Case
    findings: list[Finding] = field(default_factory=list)
    looked: list[Looked] = field(default_factory=list)

    async def run(self) -> Report:
        began = time.monotonic()
        for name, look in looks():
            try:
                todo = subjects(look, self.case)
            except NotHere as nothing:
                self.looked.append(Looked(name, None, Outcome.NOT_HERE, 0.0, str(nothing)))
                continue
            except NotLooked as error:
                self.looked.append(Looked(name, None, Outcome.NOT_LOOKED, 0.0, str(error)))
                continue
            for subject in todo:
                left = self.case.limits.whole - (time.monotonic() - began)
                self.looked.append(await self._look(name, look, subject, late=left <= 0))
        order = list(Severity)
        self.findings.sort(key=lambda finding: order.index(finding.severity))
        return Report(self.case, self.findings, self.looked, time.monotonic() - began)

    async def _look(self, name: str, look: Look, subject: Subject, *, late: bool) -> Looked:
        began = time.perf_counter()
        of = None if isinstance(subject, Case) else str(subject)

        def was(outcome: Outcome, why: str | None = None, **seen: int | None) -> Looked:
            return Looked(name, of, outcome, round(1000 * (time.perf_counter() - began), 1), why, **seen)

        try:
            rows = await self._rows(look, subject, late=late)
        except NotHere as nothing:
            return was(Outcome.NOT_HERE, str(nothing))
        except NotLooked as error:
            return was(Outcome.NOT_LOOKED, str(error))
        faults = [row for row in rows if row.get("found", 1)]
        for row in faults:
            self.findings.append(self._finding(name, look, subject, row))
        n = _seen(rows)
        column = _column(subject)
        counted = column.rows if column and column.rows >= 0 and n is not None else None
        return was(Outcome.FOUND if faults else Outcome.CLEAN, n=n, of=counted)

    async def _rows(self, look: Look, subject: Subject, *, late: bool) -> list[Evidence]:
        if late:
            raise NotLooked(f"all looks together may take {self.case.limits.whole:g} s")
        column = _column(subject)
        if column and column.closed and not look.by_catalog:
            raise NotLooked(column.closed)
        async with guarded(self.conn, self.case.limits):
            rows = await look.ask(self.conn, look, self.case, subject)
        if _seen(rows) == 0 and column and column.percent < WHOLE:
            raise NotLooked("the sample of its blocks came out empty")
        return rows

    def _finding(self, name: str, look: Look, subject: Subject, row: Evidence) -> Finding:
        evidence = {what: value for what, value in row.items() if what != "severity"}
        known = {} if isinstance(subject, Case) else {"subject": str(subject)}
        if isinstance(subject, Column):
            known |= {"table": subject.table, "column": subject.column}
        words = _Words({**known, **evidence})
        return Finding(
            name=name,
            severity=Severity(row.get("severity") or look.severity),
            subject=known.get("subject"),
            sentence=look.sentence.format_map(words),
            evidence=evidence,
            sql=_typed(self.conn, look, self.case, subject),
            do=look.do.format_map(words),
        )


def _column(subject: Subject) -> Column | None:
    if isinstance(subject, Graph):
        return subject.column
    return subject if isinstance(subject, Column) else None


def _seen(rows: Sequence[Evidence]) -> int | None:
    """How many were looked at, where that is said."""
    return next((row["n"] for row in rows if "n" in row), None)


class _Words(dict[str, Any]):
    """A count of rows is shown as a count; what is an object, as words."""

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if isinstance(value, dict):
            return ", ".join(f"{key}: {n:,}" for key, n in sorted(value.items()))
        return value


def _typed(conn: Connection, look: Look, case: Case, subject: Subject) -> str:
    """The query that shows it, as a person types it."""
    query = look.see or look.query
    if query is None:
        return ""
    cursor = AsyncClientCursor(conn, row_factory=namedtuple_row)
    text = cursor.mogrify(filled(query, subject), parameters(look, case, subject))
    return "\n".join(line for line in text.splitlines() if not line.startswith("--")) + ";"


async def examined(conn: Connection, case: Case) -> Report:
    """Every look at everything that is there; nothing is written, whatever a look asks."""
    return await Examination(conn, case).run()
