"""What there is to say of a collection and its migration, label by label: for lines and for a tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from revec.cli.drift import drift_line
from revec.model import duration

Line = tuple[str, str]  # a label and what there is to say


def of_collection(seen: dict[str, Any]) -> Iterator[Line]:
    from revec.search.fusion import Fusion

    yield "serving", f"{seen['serving'] or 'nothing yet'} (epoch {seen['epoch']})"
    if seen["fusion"]:
        yield "fusion", Fusion(**seen["fusion"]).told
    waiting = f", {seen['unprojected']:,} changes to project" if seen["unprojected"] else ""
    yield "documents", f"{seen['documents']:,}{waiting}"
    for source in seen["sources"]:
        name = source["name"]
        if source["paused"]:
            go_on = f"its changes are kept, `revec resume {seen['collection']} --source {name}` goes on"
            yield "source", f"{name} is paused: {source['paused']}; {go_on}"
        elif source["fault"] or source["reading"]:
            yield "source", source["fault"] or f"{name} is being read"
    if seen["drift"]:
        yield "drift", drift_line(seen["drift"])
        for note in (seen["drift"]["last"] or {}).get("notes", ()):
            yield "", note


def of_migration(seen: dict[str, Any]) -> Iterator[Line]:
    """How the backfill goes, what it is held back by, and what it took."""
    if seen["throttle"]:
        yield "throttle", throttle_line(seen["throttle"])
    if seen["braked"]:
        yield "brake", f"the backfill yields, {seen['braked']}"
    if seen["state"] == "backfilling":
        yield "backfill", backfill(seen)
    if early := seen["early"]:
        yield "early", f"{'open' if early['open'] else 'closed'}: {early['why']}"
        if early["documents"]:
            yield "", f"{early['documents']:,} documents were embedded for searches"
    for batch in seen["batches"]:
        yield "patient", batch
    if seen["spent"] or seen["budget"]:
        cap = f" of ${seen['budget']:,.2f}" if seen["budget"] is not None else ""
        yield "spent", f"${seen['spent']:,.4f}{cap}"
    yield from came(seen["reality"])


def backfill(seen: dict[str, Any]) -> str:
    rate = f", {seen['per_second']:,.0f}/s" if seen["per_second"] else ""
    eta = f", about {duration.told(seen['eta_seconds'])} to go" if seen["eta_seconds"] else ""
    return f"{seen['done']:,} of {seen['all']:,}{rate}{eta}"


def came(figures: list[dict[str, Any]]) -> Iterator[Line]:
    """What a load took beside its plan, for people."""
    from revec.migrate.planning.reality import told

    for number, each in enumerate(figures):
        yield "" if number else "load took", told(each)


def of_users(seen: dict[str, Any]) -> Iterator[Line]:
    if seen["canary"]:
        yield "canary", seen["canary"]
    if seen["order"]:
        yield "order", seen["order"]
    for number, line in enumerate(seen["guard"]):
        yield "" if number else "guard", line


def of_index(each: dict[str, Any]) -> dict[str, Any]:
    return {
        "index": each["name"],
        "store": each["store"],
        "role": each["role"],
        "kind": each["kind"],
        "backlog": f"{each['backlog']:,} ({duration.told(each['oldest_seconds'])})",
        "dead": each["dead"],
        "excluded": each["excluded"],
        "MB": f"{each['bytes'] / 2**20:.1f}",
    }


def _of_column(column: dict[str, Any]) -> Iterator[Line]:
    """An adopted index: who keeps it, and what that comes to."""
    behind = (
        f", {column['behind']:,} documents have no vector of their present text" if column["behind"] else ""
    )
    later = (
        f" (from the first migration on: {column['chosen']})" if column["chosen"] != column["writer"] else ""
    )
    yield "column", f"{column['name']} is written by {column['writer']}{later}{behind}"
    if column["unverifiable"]:
        yield "", f"unverifiable, model gone: rollback lost for queries ({column['unverifiable']})"


def troubles(seen: dict[str, Any]) -> Iterator[Line]:
    for why in seen["providers"]:
        yield "provider", why
    for each in seen["indexes"]:
        if each["fault"]:
            yield "fault", each["fault"]
        if column := each["column"]:
            yield from _of_column(column)
    if seen["tenants_fault"]:
        yield "tenants", seen["tenants_fault"]
    for tenant, why in seen["paused_tenants"].items():
        yield "paused", f"tenant {tenant}: {why}"


def throttle_line(limits: Mapping[str, Any]) -> str:
    """What a person allows, in words."""
    named = {
        "docs_per_second": "{:g} documents of the backfill a second",
        "concurrency": "{:,} claims at once",
        "claim": "{:,} documents in a claim",
    }
    said = [words.format(limits[name]) for name, words in named.items() if limits.get(name)]
    return f"at most {', '.join(said)} (by {limits['set_by']})" if said else "not throttled"
