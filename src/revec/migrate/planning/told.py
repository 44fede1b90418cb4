"""A plan in words: the same lines for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from revec.migrate.evidence import RUNGS
from revec.observe import pages

if TYPE_CHECKING:
    from revec.migrate.planning.planned import Plan

MB = 1 << 20
COPIED = "copied from the index that serves: only a sample is embedded again, as proof"
PATIENT = "the backfill waits for the provider's batches: half the price, within a day"
Lines = dict[str, list[str]]  # label → what there is to say of it


def lines(plan: Plan) -> Lines:
    """Label → sentences; what there is nothing to say of is left out."""
    said: dict[str, str | Sequence[str] | None] = {
        **_now(plan),
        **_then(plan),
        **_proof(plan),
        "risks": plan.risks,
        "maintenance": plan.facts["maintenance"],
        "dump": plan.facts["dump"],
        "locks": plan.locks,
        "SQL": [f"{each};" for each in plan.sql],
        "rollback": [f"{state}: {words}" for state, words in plan.facts["rollback"].items()],
    }
    return {label: [words] if isinstance(words, str) else [*words] for label, words in said.items() if words}


def _now(plan: Plan) -> dict[str, str | Sequence[str] | None]:
    seen = plan.seen
    about = "" if seen.looked_at >= plan.documents else f", from {seen.looked_at:,} that were looked at"
    counted = ", ".join(
        f"{seen.total(what):,} {words}"
        for what, words in (
            ("lacking", "without a vector"),
            ("stale", "stale"),
            ("blank", "without a text"),
            ("again", "with the text of another"),
        )
        if seen.total(what) and (plan.old or what in {"blank", "again"})
    )
    now = f"{seen.embedded:,} are embedded now" if plan.old else "none is embedded now"
    measured = f"{plan.now_bytes:,.0f} bytes a vector where they are now" if plan.now_bytes else None
    whole = f"{plan.documents:,} (largest tenant {plan.largest_tenant:,})"
    return {
        "documents": "; ".join(filter(None, (whole, now, counted))) + about,
        "sources": [
            f"{each.source}: {each.documents:,} documents of {each.mean_bytes:,.0f} bytes on average"
            for each in seen.sources
        ],
        "now": measured,
    }


def _then(plan: Plan) -> dict[str, str | Sequence[str] | None]:
    size, here = plan.size, plan.place.is_here
    disk = f"{size.vectors / MB:,.1f} table and keys, {size.graph / MB:,.1f} graph"
    memory = f"; {size.memory / MB:,.0f} MB of the server's memory to build it" if size.memory else ""
    return {
        "index": f"{plan.kind}: {plan.why_kind}",
        "store": plan.place.store if not here or plan.copies else None,
        "vectors": COPIED if plan.copies else None,
        "disk": f"{size.disk / MB:,.1f} MB more ({disk}), until the old index is dropped; "
        f"{size.wal / MB:,.1f} MB of WAL{memory}",
        "tokens": plan.bill.tokens.told,
        "cost": None if plan.copies else plan.bill.told_cost,
        "time": None if plan.copies else plan.bill.told_time,
        "long texts": plan.long_texts,
        "patient": PATIENT if plan.patient else None,
        "order": [each.told for each in plan.turns if not each.waits],
        "waiting": [each.told for each in plan.turns if each.waits],
        "until": _until(plan),
        "batches": plan.facts["batches"],
    }


def _proof(plan: Plan) -> dict[str, str | Sequence[str] | None]:
    return {
        "fusion": plan.fusion,
        "early": plan.early if plan.serve_early else None,
        "gates": ", ".join(plan.gates),
        "judged": plan.power.told if plan.power else None,
        "traffic": plan.traffic.told if plan.traffic else None,
        "shadow": rungs(plan.shadow) if plan.shadow else None,
    }


def _until(plan: Plan) -> str | None:
    if plan.course.until is None:
        return None
    name = plan.collection.name
    return (
        f"{100 * plan.course.until:g}% of the documents: there it pauses, and `revec resume {name}` goes on"
    )


def rungs(first: float) -> str:
    then = "".join(f", then of {rung:.0%}" for rung in RUNGS if rung > first)
    return f"both indexes are asked, at first of {first:.0%} of the queries{then}"


def html(plan: Plan) -> str:
    """One page of it, to be handed round."""
    name = plan.collection.name
    facts = [(key, value) for key, value in plan.facts.items() if not isinstance(value, (dict, list))]
    rows = [(label, each) for label, words in lines(plan).items() for each in words]
    return pages.page(
        f"Plan: {name}, {plan.facts['from'] or 'nothing'} → {plan.space.address}, {plan.space.dims} dims",
        pages.paragraph(f"Nothing was written. `revec start {name} --to {plan.space.address} …` begins."),
        pages.table("In words", ["of", "what is known"], rows),
        pages.table("In figures", ["what", "value"], facts),
    )
