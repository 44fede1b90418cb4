"""What a person is told beside the figures: how to go about it, what may go wrong, what to keep before."""

from __future__ import annotations

from datetime import date

from revec.migrate.planning.bill import Bill
from revec.migrate.planning.survey import Survey
from revec.model.index import Index

SMALL, MEDIUM = 1_000, 10_000  # documents: the sizes of systems that people plan by
MAINTENANCE = (
    "none: searches and writes go on, nothing of yours is locked, stopped or altered; the backfill yields "
    "while it makes searches slower"
)


def size_class(documents: int) -> str:
    return "small" if documents < SMALL else "medium" if documents <= MEDIUM else "large"


def batches(name: str, documents: int, bill: Bill) -> str:
    """By the collection's size: whether the batch size is anybody's business, and how to go in stages."""
    fill = (
        f"leave --batch-size out: packs fill themselves, about {bill.claim:,} documents to "
        f"{bill.pack.tokens:,} tokens"
    )
    watch = f"`revec status {name} --watch` until it is over"
    match size_class(documents):
        case "small":
            return f"small: all at once, at any hour; {watch}; {fill}"
        case "medium":
            return (
                f"medium: all at once, at any hour; {watch}; --priority for whose tenants come first; {fill}"
            )
        case _:
            half = "; --patient for half the price" if bill.takes_batches else ""
            return (
                f"large: in stages, --until 10% and a look at what it took, then `revec resume {name}`; "
                f"or tenant by tenant with --priority and --tenants; more workers on more hosts{half}; {fill}"
            )


def dump(name: str) -> str:
    """For disasters: no rollback needs it. It goes into a new database, never over the live one."""
    return f'pg_dump --format=custom --file=before-{name}.dump "$REVEC_DSN"'


def risks(
    name: str,
    seen: Survey,
    bill: Bill,
    *,
    old: Index | None,
    gone: tuple[date | None, date | None],
    long_texts: str | None,
    workers: int,
    two_layers: bool,
) -> list[str]:
    """`gone`: when the old and the new model are switched off; `long_texts`: what becomes of them."""
    before, after = gone
    said = {
        f"the new model is switched off on {after}: this is not the last migration": after is not None,
        f"the old model {_off(before)}: from then on no rollback answers queries": before is not None,
        f"{seen.total('lacking'):,} documents have no vector where they are now, and will have one": bool(
            old and seen.total("lacking")
        ),
        f"{seen.total('stale'):,} documents are older there than their text (`revec verify {name}`)": bool(
            seen.total("stale")
        ),
        "how many tokens is only bounded: the bill is likely a third of what is said": bill.tokens.is_bound,
        "nobody knows the price: no --budget can be kept": bill.price is None,
        "no limit of the provider is known: the first minute may meet its refusals, which burn nothing": (
            bill.at_limits is None and bill.price != 0
        ),
        "no worker was seen: nothing begins before `revec worker` runs": not workers,
        "tenants are kept apart by one layer only: this login may make no roles": not two_layers,
        long_texts or "": bool(long_texts),
    }
    return [words for words, true in said.items() if true] or ["none that is known"]


def _off(day: date | None) -> str:
    return f"was switched off on {day}" if day and day <= date.today() else f"is switched off on {day}"  # noqa: DTZ011 - announced days have no zone
