"""The port of every gate: a module of this room whose name is the gate's, with a `judge`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast

from revec.migrate.evidence import Evidence, of_pair
from revec.migrate.outlook import Limits
from revec.model.errors import BadInput, StoreUnavailable
from revec.model.index import Index
from revec.model.migration import Migration
from revec.model.verdict import Outcome, Verdict
from revec.postgres.database import Database
from revec.postgres.shadows import Pair
from revec.search.queries import ProviderFor
from revec.search.retriever import Retriever
from revec.stores.base import Here

ROOM = "revec.migrate.gates"
COMPLETENESS, FIDELITY, RECALL = "completeness", "fidelity", "recall"
FRESHNESS, REHEARSAL = "freshness", "rehearsal"
AT_THE_CUTOVER = (FRESHNESS, REHEARSAL)  # asked by the cutover itself, whatever a plan requires


@dataclass(frozen=True, slots=True)
class Tools:
    """What moving and judging a migration takes."""

    database: Database
    store: Here
    provider_for: ProviderFor
    retriever: Retriever
    limits: Limits


@dataclass(frozen=True, slots=True)
class Case:
    """What is judged."""

    tools: Tools
    index: Index
    migration: Migration | None = None  # None: an index that serves, with nothing to be moved to
    before: tuple[Verdict, ...] = ()  # of the gates that were asked just now

    @property
    def doubted(self) -> Verdict | None:
        """What another gate has just found: nothing that costs a look is asked of such an index."""
        fine = {Outcome.PASSED, Outcome.NOT_CONFIGURED}
        return next((verdict for verdict in self.before if verdict.outcome not in fine), None)


class Gate(Protocol):
    async def judge(self, case: Case) -> Verdict:
        """A fresh verdict. What cannot be told, for want of data or of an answer, is INCONCLUSIVE."""


def names() -> list[str]:
    """Every gate that there is: a new one is one new file."""
    here = importlib.import_module(ROOM).__path__
    return sorted(module.name for module in pkgutil.iter_modules(here) if module.name != "base")


def gate(name: str) -> Gate:
    """
    Raises:
        BadInput: there is no such gate.
    """
    if name not in names():
        raise BadInput(f"there is no gate {name!r}: choose of {', '.join(names())}")
    return cast("Gate", importlib.import_module(f"{ROOM}.{name}"))


async def shadowed(case: Case) -> Evidence | None:
    """What the dual read shows while the old index serves; None where there is nothing to compare."""
    migration = case.migration
    if migration is None or migration.old_index is None or migration.new_index is None:
        return None
    pair = Pair(migration.collection_id, migration.old_index, migration.new_index)
    async with case.tools.database.transaction("worker") as conn:
        return await of_pair(conn, pair, migration.collection_id)


async def judged(case: Case, gates: Sequence[str]) -> list[Verdict]:
    """A fresh verdict of each gate, in this order: the later ones know what the others found."""
    found: list[Verdict] = []
    for name in gates:
        try:
            found.append(await gate(name).judge(replace(case, before=tuple(found))))
        except StoreUnavailable as error:
            found.append(Verdict(name, Outcome.INCONCLUSIVE, str(error)))
    return found
