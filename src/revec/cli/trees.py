"""The console at a terminal: one tree of a migration, one of the queue. Colour is never alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.progress_bar import ProgressBar
from rich.text import Text
from rich.tree import Tree

from revec.cli import standing
from revec.cli.watching import moment
from revec.model import duration
from revec.model.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from revec.cli.standing import Line
    from revec.migrate.picture import Picture, Standing
    from revec.work.overview import Overview, Stats

BAR = 40  # columns
MOST = 5  # lines of the history, and tenants: a screen has so many
STEPS: dict[Standing, str] = {"done": "✓", "now": "●", "ahead": "○", "skipped": "–"}  # noqa: RUF001
MARKS = {
    Outcome.PASSED: ("✓", "green"),
    Outcome.FAILED: ("✗", "red"),
    Outcome.INCONCLUSIVE: ("…", "yellow"),
    Outcome.NOT_CONFIGURED: ("–", "dim"),  # noqa: RUF001 - a dash is meant
}


def of_migration(picture: Picture) -> Tree:
    """What the Migration page shows, grouped as it is there."""
    status = picture.status
    seen = asdict(status)
    target = f" → {status.target}" if status.target else ""
    root = Tree(Text(f"{status.collection}{target}", style="bold"))
    _branch(root, "collection", standing.of_collection(seen))
    _migration(root, picture, seen)
    if status.indexes:
        indexes = root.add(_title("indexes", str(len(status.indexes))))
        for each in seen["indexes"]:
            facts = standing.of_index(each)
            name, role = facts.pop("index"), facts.pop("role")
            indexes.add(_title(name, f"{role}, " + ", ".join(f"{key} {what}" for key, what in facts.items())))
    _branch(root, "troubles", standing.troubles(seen), style="red")
    if status.gates:
        gates = root.add(_title("gates", "what the cutover wants to see passed"))
        for verdict in status.gates:
            gates.add(_gate(verdict))
    _branch(root, "users", [*standing.of_users(seen), *_answered(picture)])
    _branch(root, "tenants", _tenants(picture))
    _branch(root, "history", _history(picture))
    root.add(_title("next", status.next))
    if status.rollback:
        root.add(_title("rollback", status.rollback))
    return root


def _migration(root: Tree, picture: Picture, seen: dict[str, Any]) -> None:
    status = picture.status
    at = root.add(_title("migration", status.state or "none yet"))
    if picture.steps:
        at.add(Text("  ".join(f"{STEPS[step.standing]} {step.state}" for step in picture.steps)))
    if status.paused:
        at.add(Text(f"⏸ paused: {status.paused}", style="yellow"))
    if status.state == "backfilling" and status.all:
        at.add(ProgressBar(total=status.all, completed=status.done or 0, width=BAR))
    _leaves(at, standing.of_migration(seen))
    if picture.eta:
        best, worst = map(duration.told, picture.eta)
        at.add(_title("time left", best if best == worst else f"{best} to {worst}"))
    if picture.calls:
        at.add(_title("tokens", f"{picture.tokens:,} in {picture.calls:,} calls"))


def _answered(picture: Picture) -> Iterator[Line]:
    """What each index answered in the last ten minutes, where users are."""
    for each in picture.answered:
        if each.requests:
            slow = "" if each.p95_ms is None else f", p95 {each.p95_ms:,.1f} ms"
            yield each.index, f"{each.requests:,} requests, {each.errors:,} errors{slow}"


def _tenants(picture: Picture) -> Iterator[Line]:
    """Who lacks most; where there is but one there is nothing to compare."""
    if picture.tenants_all > 1:
        yield "through", f"{picture.tenants_through:,} of {picture.tenants_all:,}"
        for each in picture.tenants[:MOST]:
            if not each.done:
                waits = ", waits" if each.paused else ""
                yield each.name, f"{each.seen:,} of {each.documents:,}{waits}"


def _history(picture: Picture) -> Iterator[Line]:
    for event in picture.events[:MOST]:
        move = f"{event.became}: " if event.became else ""
        yield moment(event.at), f"{move}{event.why} (by {event.who})"


def of_queue(seen: Overview) -> Tree:
    """What `queue stats` counts, an index at a time."""
    root = Tree(Text(seen.collection, style="bold"))
    for each in seen.indexes:
        branch = root.add(_title(each.index, f"{each.done:,} of {each.documents:,} done"))
        if each.open and each.documents:
            branch.add(ProgressBar(total=each.documents, completed=each.done, width=BAR))
        for said in counts(each)[1:]:
            branch.add(Text(said, style="red" if said.endswith(WRONG) else ""))
        if each.oldest_seconds:
            branch.add(_title("oldest edit", f"waits for {each.oldest_seconds:,.1f} s"))
    root.add(_title("workers", of_all(seen)))
    for trouble in seen.troubles:
        root.add(Text(f"✗ {trouble}", style="red"))
    return root


WRONG = ("failed", "silent", "expired")


def counts(each: Stats) -> list[str]:
    """Done, and whatever else there is any of; ≈ where it was estimated."""
    names = ("waiting", "in_hand", "later", "to_come", "failed", "excluded", "deletions", "silent", "expired")
    there = ["done", *(name for name in names if getattr(each, name))]
    return [f"{figure(each, name)} {name.replace('_', ' ')}" for name in there]


def figure(each: Stats, name: str) -> str:
    return f"{'≈' if name in each.rough else ''}{getattr(each, name):,}"


def of_all(seen: Overview) -> str:
    waiting = f", {seen.unprojected:,} changes to project" if seen.unprojected else ""
    return f"{seen.workers:,} workers, {seen.per_second:,.1f} documents/s{waiting}"


def _branch(root: Tree, name: str, lines: Iterable[Line], style: str = "") -> None:
    """A group, where there is anything in it."""
    if said := list(lines):
        _leaves(root.add(Text(name, style="dim")), said, style)


def _leaves(at: Tree, lines: Iterable[Line], style: str = "") -> None:
    for label, words in lines:
        at.add(_title(label, words, style) if label else Text(words, style=style))


def _title(name: str, words: str, style: str = "") -> Text:
    return Text.assemble((f"{name}  ", "dim"), (words, style))


def _gate(verdict: Verdict) -> Text:
    mark, style = MARKS[verdict.outcome]
    said = f"{mark} {verdict.outcome.lower()}"
    return Text.assemble((said, style), f"  {verdict.gate}  ", (verdict.detail, "dim"))
