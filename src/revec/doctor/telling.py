"""What was found, for programs and on a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from revec.doctor.base import Severity
from revec.doctor.examine import Finding, Looked, Outcome, Report
from revec.doctor.smoke import Smoke
from revec.observe import pages

VERSION = 1  # of the shape below: a field may be added to it, none is taken away or means something else
COLOURS = {Severity.CRITICAL: "#b00020", Severity.WARNING: "#9a5b00", Severity.NOTE: "#345"}


def shape(report: Report, tried: Sequence[Smoke] = ()) -> dict[str, Any]:
    """The report as JSON has it."""
    case = report.case
    return {
        "version": VERSION,
        "database": case.database,
        "server": case.server,
        "pgvector": case.vector,
        "login": case.login,
        "revec": case.installed,
        "pooler": case.pooler,
        "seconds": round(report.seconds, 3),
        "counts": {severity.value: report.count(severity) for severity in Severity},
        "findings": [asdict(each) for each in report.findings],
        "looks": [asdict(each) for each in report.looked],
        "smoke": [asdict(each) for each in tried],
    }


def headline(report: Report) -> str:
    """How it went, in a sentence."""
    counted = [f"{report.count(each)} {each}" for each in Severity if report.count(each)]
    blind = len(report.blind())
    looks = sum(each.outcome in {Outcome.CLEAN, Outcome.FOUND} for each in report.looked)
    unseen = f"; {blind} not looked at" if blind else ""
    found = ", ".join(counted) or "nothing found"
    return f"{report.case.database}: {found} ({looks} looks in {report.seconds:.1f} s{unseen})"


def seen(looked: Looked) -> str:
    """How much of it was looked at."""
    if looked.why:
        return looked.why
    if looked.n is None:
        return ""
    whole = f" of ≈{looked.of:,}" if looked.of is not None and looked.of > looked.n else ""
    return f"{looked.n:,}{whole} rows"


def page(report: Report, tried: Sequence[Smoke] = ()) -> str:
    """One page that needs nothing but itself."""
    case = report.case
    title = f"revec doctor: {headline(report)}"
    parts = [pages.paragraph(_of(report))]
    parts += map(_told, report.findings)
    parts += [pages.table(f"Smoke: {each.model}", ["what", "value"], asdict(each).items()) for each in tried]
    if blind := report.blind():
        rows = ([each.name, each.subject or case.database, each.why] for each in blind)
        parts.append(pages.table("Not looked at, so nobody knows", ["look", "of", "why"], rows))
    rest = (
        [each.name, each.subject or "", each.outcome, seen(each), f"{each.ms:.0f}"]
        for each in report.looked
        if each.outcome is not Outcome.NOT_LOOKED
    )
    parts.append(pages.table("Every look", ["look", "of", "outcome", "looked at", "ms"], rest))
    return pages.page(title, *parts)


def _of(report: Report) -> str:
    case = report.case
    vector = f"pgvector {case.vector}" if case.vector else "no pgvector"
    revec = "with Revec's tables" if case.installed else "without Revec's tables"
    return (
        f"PostgreSQL {case.server}, {vector}, {revec}, as {case.login}, on {case.today}. Nothing was changed."
    )


def _told(finding: Finding) -> str:
    colour = COLOURS[finding.severity]
    return (
        f'<h2 style="color:{colour}">{pages.text(finding.severity)}: {pages.text(finding.name)}</h2>'
        f"<p>{pages.text(finding.sentence)}.</p><p><b>Do:</b> {pages.text(finding.do)}.</p>"
        f"<details><summary>See it</summary><p>{pages.code(finding.sql or 'No SQL tells it.')}</p>"
        f"{pages.table('Evidence', ['what', 'value'], finding.evidence.items())}</details>"
    )
