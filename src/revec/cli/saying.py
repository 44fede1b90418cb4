"""What a verb that runs says on the way, a line an event, on standard error."""

from __future__ import annotations

from typing import Any

from revec.cli.door import err
from revec.observe import events

MOST_SAID = 20  # collections in a process's first lines


async def what_serves(app: Any) -> None:
    """The first lines of a log say which index answers, for whoever reads it on another day."""
    from revec.search import catalogue

    for each in (await catalogue.listed(app.database))[:MOST_SAID]:
        if each.serving:
            err.print(f"{each.name} is served by {each.serving} (epoch {each.epoch})", markup=False)


def of_requests(event: Any) -> None:
    match event:
        case events.TurnedAway():
            err.print(f"turned away: {event.why}", markup=False)
        case events.RequestFailed():
            err.print(f"{event.route} failed: {event.why}", markup=False)
        case _:
            if line := _trouble(event):
                err.print(line, markup=False)


def of_work(event: Any) -> None:
    """One line for a person on what happened."""
    if line := _line(event):
        err.print(line, markup=False)


def _line(event: Any) -> str | None:
    match event:
        case events.PackDone():
            rate = event.written / event.seconds if event.seconds else 0
            said = f"{event.index}: {event.written:,} written, {event.removed:,} removed, {rate:,.0f}/s"
            return said if event.written or event.removed or event.buried else None
        case events.Moved():
            return f"migration {event.migration}: {event.was} → {event.became}, {event.why}"
        case events.Judged():
            return f"migration {event.migration}: {event.gate} {event.outcome}, {event.why}"
        case events.Bridged():
            verdict = "served early" if event.holds else "not served early"
            return f"migration {event.migration}: {verdict}, {event.why}"
        case events.Braked():
            slow = f"the backfill yields, {event.speed:.0%} of its speed: {event.why}"
            return slow if event.why else "the backfill goes at full speed again"
        case _:
            return _trouble(event)


def _trouble(event: Any) -> str | None:
    said = None
    match event:
        case events.ProviderFailed():
            said = f"{event.model}: {event.why}"
        case events.HeldBack():
            said = f"waiting: {event.why}"
        case events.IndexFaulted():
            said = f"{event.index} is written no more: {event.why}"
        case events.TryAgain():
            said = f"trying again: {event.why}"
        case events.Alarmed():
            said = f"migration {event.migration}, {event.action} ({event.alert}): {event.guard}, {event.why}"
        case events.DatabaseLost():
            said = f"the database is gone ({event.why}); trying again"
    return said


def of_all(event: Any) -> None:
    """Of a process that works and answers."""
    if line := _line(event):
        err.print(line, markup=False)
    else:
        of_requests(event)
