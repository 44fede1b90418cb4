"""The verb of the dual read: which index is asked behind the answers, how often, and what that has shown."""

from __future__ import annotations

import asyncio
import json as plain
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import Parameter

from revec.cli.door import Exit, Json, of_collection, out, show_json, table
from revec.model.errors import BadInput

if TYPE_CHECKING:
    from revec.app import App
    from revec.model.index import Collection

AT_ONCE = 2  # queries of a log
Rate = Annotated[float | None, Parameter(help="The share of the distinct queries: 0.02 is 2%.")]
Line = tuple[str, str]


def register(app: cyclopts.App) -> None:
    app.command(shadow)


async def shadow(
    name: str,
    /,
    *,
    rate: Rate = None,
    to: Annotated[str | None, Parameter(help="The index that is compared, by name or number.")] = None,
    off: Annotated[bool, Parameter(help="Read nothing twice any more.")] = False,
    replay: Annotated[
        Path | None, Parameter(help='A log of queries: {"text", "tenant"?, "count"?} on each line.')
    ] = None,
    json: Json = False,
) -> int:
    """Ask a second index behind the answers, and show how the two compare."""
    if off and (rate is not None or to or replay):
        raise BadInput("--off stands alone: it keeps what was seen")
    log = list(_queries(replay)) if replay else []
    async with of_collection(name) as (app, collection):
        verbs = app.commands.shadow
        if off:
            await verbs.off(collection)
        elif rate is not None or to:
            await verbs.point(collection, rate=rate, to=to)
        if log:
            await _replayed(app, collection, log)
        report = await verbs.report(collection)
    if json:
        show_json(report)
    else:
        _show(report)
    return Exit.DONE


async def _replayed(app: App, collection: Collection, log: list[dict[str, Any]]) -> None:
    """At idle, a few at once; what a model has no room for is left out and said."""
    from revec.model.errors import Refused
    from revec.model.reading import Mode
    from revec.search.dual_read import NotObserved
    from revec.search.retriever import Served

    route, index = await app.retriever.route(collection.name)
    if route.shadow is None:
        raise Refused(
            f"{collection.name} has no shadow: `revec shadow {collection.name} --rate 0.02` sets one, "
            "then the log can be replayed"
        )
    served = Served(collection.name, route, index)
    waiting = iter(log)
    new = known = left = 0

    async def read_on() -> None:
        nonlocal new, known, left
        for line in waiting:
            how = {"tenant": line["tenant"], "mode": Mode.HYBRID, "weight": line["count"]}
            try:
                if await app.dual_reader.replay(served, line["text"], **how):
                    new += 1
                else:
                    known += 1
            except NotObserved:
                left += 1

    async with asyncio.TaskGroup() as readers:
        for _ in range(AT_ONCE):
            readers.create_task(read_on())
    if left:
        out.print(
            f"{left:,} queries were left out: a model rests, or has no room. Replay the log again later."
        )
    out.print(f"replayed    {new:,} questions, {known:,} were known")


def _queries(path: Path) -> Iterator[dict[str, Any]]:
    """
    Raises:
        BadInput: there is no such file, or a line is no query.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            said = plain.loads(line)
            text, tenant, count = said["text"], said.get("tenant", "default"), said.get("count", 1)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BadInput(f'line {number} of {path} is no query: write {{"text": "…"}} on each') from None
        if not (
            isinstance(text, str) and text.strip() and isinstance(tenant, str) and isinstance(count, int)
        ):
            raise BadInput(f"line {number} of {path} wants a text, a tenant that is one, and a whole count")
        yield {"text": text, "tenant": tenant, "count": max(1, count)}


def _show(seen: dict[str, Any]) -> None:
    for label, words in _lines(seen):
        out.print(f"{label:12}{words}", markup=False)
    table(_arms(seen["latency"]))
    table(_causes(seen["variance"]))


def _lines(seen: dict[str, Any]) -> Iterator[Line]:
    yield "shadow", f"{seen['candidate'] or 'none'} beside {seen['serving'] or 'nothing'}"
    yield "rate", f"{seen['rate']:.0%} of the distinct queries" if seen["on"] else "off"
    yield (
        "seen",
        (
            f"{seen['questions']:,} questions of {seen['requests']:,} requests, as good as "
            f"{seen['effective']:,.0f} of equal weight; {seen['tenants']:,} tenants"
        ),
    )
    variance, errors = seen["variance"], seen["errors"]
    if variance["n"]:
        yield (
            "alike",
            (
                f"overlap@10 {variance['overlap']:.3f} (A/A {variance['A/A overlap']:.3f}), "
                f"RBO {variance['rbo']:.3f} (A/A {variance['A/A rbo']:.3f}), "
                f"same first {variance['top-1']:.0%} (A/A {variance['A/A top-1']:.0%})"
            ),
        )
    if errors["n"]:
        yield (
            "errors",
            (
                f"{errors['new']:,} with the new index, {errors['old']:,} with the old one; "
                f"with the new one alone {errors['bound']:.1%} at most"
            ),
        )
    yield "shed", f"{seen['dropped']:,} dropped, {seen['lost']:,} lost: {seen['shed']:.1%} of the last day"
    if seen["doubt"]:
        yield "doubt", seen["doubt"]
    for gate, outcome in seen["gates"].items():
        yield "gate", f"{gate} {outcome}"
    yield "waits for", seen["waits_for"]


def _arms(times: dict[str, Any]) -> list[dict[str, Any]]:
    """Milliseconds of both arms."""
    if times["new search p50"] is None:
        return []
    return [
        {
            "ms": part,
            **{f"{arm} {p}": times[f"{arm} {part} {p}"] for arm in ("again", "new") for p in ("p50", "p95")},
        }
        for part in ("embed", "search")
    ]


def _causes(variance: dict[str, Any]) -> list[dict[str, Any]]:
    """Documents that one index alone shows."""
    causes = sorted(variance["lost"].keys() | variance["gained"].keys())
    return [
        {"cause": each, "lost": variance["lost"].get(each, 0), "gained": variance["gained"].get(each, 0)}
        for each in causes
    ]
