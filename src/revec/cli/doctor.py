"""`doctor`: what is wrong with a database of vectors, before or beside Revec."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter

from revec.cli.door import Exit, Json, err, out, settings, show_json
from revec.doctor.base import Severity
from revec.model.errors import BadInput

if TYPE_CHECKING:
    from revec.doctor.examine import Finding, Report
    from revec.doctor.smoke import Smoke

Page = Annotated[Path | None, Parameter(name="--html", help="Write one page that needs nothing but itself.")]
FailOn = Annotated[
    Severity | None,
    Parameter(
        help="End with 1 where something at least as severe is found, with 3 where a look could not be taken."
    ),
]
Models = Annotated[
    tuple[str, ...], Parameter(name="--model", help="A model that you use, e.g. gemini:text-embedding-004.")
]
TryIt = Annotated[
    bool, Parameter(name="--smoke", help="Embed and search one document through the real provider.")
]
Seconds = Annotated[float, Parameter(name="--timeout", help="Seconds that one statement may take.")]
COLOUR = {Severity.CRITICAL: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}


def register(app: cyclopts.App) -> None:
    app.command(doctor)


async def doctor(
    *,
    json: Json = False,
    html: Page = None,
    fail_on: FailOn = None,
    smoke: TryIt = False,
    model: Models = (),
    patience: Seconds = 2.0,
) -> int:
    """Look for what is wrong with a database of vectors; nothing is changed.

    Works on any database with vector columns, before Revec has tables there, and beside Revec.
    """
    from revec.app import examining
    from revec.doctor.telling import page, shape

    if patience <= 0:
        raise BadInput("--timeout is seconds, above 0")
    async with examining(settings(), models=model, patience=patience) as visit:
        report = await visit.report()
        tried = await visit.smoke() if smoke else []
    if html is not None:
        _write(html, page(report, tried))
    if json:
        show_json(shape(report, tried))
    else:
        _show(report, tried)
        if html is not None:
            out.print(f"{html} shows it as a page.", markup=False)
    return _exit(report, tried, fail_on)


def _exit(report: Report, tried: list[Smoke], fail_on: Severity | None) -> Exit:
    if any(not each.passed for each in tried):
        return Exit.FAILED
    if fail_on is None:
        return Exit.DONE
    worst = report.worst()
    if worst is not None and worst.reaches(fail_on):
        return Exit.FAILED
    return Exit.GATE if report.blind() else Exit.DONE  # what was not looked at is no pass


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{file} cannot be written: {error.strerror or error}") from error


def _show(report: Report, tried: list[Smoke]) -> None:
    from revec.doctor.telling import headline

    for finding in report.findings:
        _tell(finding)
    for each in report.blind():
        where = f" of {each.subject}" if each.subject else ""
        out.print(f"not looked at: {each.name}{where}: {each.why}", markup=False)
    for smoke in tried:
        (out if smoke.passed else err).print(_tried(smoke), markup=False)
    out.print(headline(report), markup=False)


def _tell(finding: Finding) -> None:
    from rich.text import Text

    out.print(
        Text.assemble((finding.severity, COLOUR[finding.severity]), f" {finding.name}: {finding.sentence}.")
    )
    out.print(f"  do: {finding.do}.", markup=False)
    if finding.sql:
        out.print(f"  see: {' '.join(finding.sql.split())}", markup=False)


def _tried(smoke: Smoke) -> str:
    if smoke.dims is None:
        return f"smoke: {smoke.model} FAILED: {smoke.why}"
    cost = "nobody knows its price" if smoke.dollars is None else f"${smoke.dollars:.8f}"
    return (
        f"smoke: {smoke.model} {'ok' if smoke.passed else 'FAILED'}: {smoke.why}; {smoke.dims} dims, "
        f"{smoke.tokens} tokens (counted by {smoke.tokens_counted_by}), {cost}, texts {smoke.embed_ms} ms, "
        f"question {smoke.query_ms} ms, search {smoke.search_ms} ms"
    )
