"""The plan as a record: what is known of a migration before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from revec.migrate.early import obstacle, shortage
from revec.migrate.planning import advice, shape
from revec.migrate.planning.bill import Bill
from revec.migrate.planning.shape import Size
from revec.migrate.planning.survey import Survey, Turn
from revec.migrate.planning.tokens import Sampled
from revec.migrate.power import Power, Traffic
from revec.migrate.way_back import ways_back
from revec.model.chunking import BY_THE_MODEL, NONE
from revec.model.course import STRAIGHT_ON, Course
from revec.model.index import Collection, Index, Kind
from revec.model.place import HERE, Place
from revec.model.space import QueryRecipe, Space

VERSION = 1  # of `facts`: a field may come, none changes its meaning


@dataclass(frozen=True, slots=True)
class Plan:
    collection: Collection
    old: Index | None
    space: Space
    query: QueryRecipe
    documents: int
    largest_tenant: int
    kind: Kind
    why_kind: str
    gates: tuple[str, ...]
    seen: Survey
    bill: Bill
    size: Size
    turns: Sequence[Turn]
    risks: Sequence[str]
    course: Course = STRAIGHT_ON
    now_bytes: float | None = None  # of a vector in the index that serves, its graph and its keys; None: none
    patient: bool = False
    fusion: str | None = None  # what becomes of it at the cutover; None: nothing
    serve_early: bool = False
    place: Place = HERE
    power: Power | None = None  # what the declared judgements can decide; None: none were declared
    traffic: Traffic | None = None  # None: there is no old index to compare a new one with
    shadow: float | None = None  # the first rate of dual reads; None: none before it is ready

    @property
    def copies(self) -> bool:
        """Whether its vectors are those of the index that serves: nothing is embedded."""
        return is_copy(self.old, self.space)

    @property
    def sampled(self) -> Sampled:
        return self.bill.tokens.sampled

    @property
    def long_texts(self) -> str:
        """How many texts the model does not take whole, and what becomes of them."""
        return fate_of_long_texts(self.sampled, self.space)

    @property
    def early(self) -> str:
        """Whether its model may answer before the backfill is over."""
        if not self.serve_early:
            return "no: `--serve-early` lets the new model answer before the backfill is over"
        if why := obstacle(self.old, self.space, self.place) or shortage(self.documents):
            return f"refused: {why}"
        return "as soon as a sample of the documents shows that it would find what the old model finds"

    @property
    def locks(self) -> list[str]:
        return shape.locks(self.kind, self.space.dims, self.place, self.old)

    @property
    def sql(self) -> list[str]:
        """The statements that change more than rows; N is the index's number."""
        return shape.statements(self.kind, self.space.dims, self.place, self.old)

    @property
    def facts(self) -> dict[str, Any]:
        """For programs, and for whoever compares it with what came."""
        name = self.collection.name
        return {
            "version": VERSION,
            "collection": name,
            "from": self.old.name if self.old else None,
            "to": self.space.address,
            "dims": self.space.dims,
            "space": self.space.id,
            "documents": self.documents,
            "largest_tenant": self.largest_tenant,
            **self.seen.facts,
            **self.bill.tokens.facts,
            **self.bill.facts,
            **self.size.facts,
            "bytes_a_vector_now": self.now_bytes,
            "index": self.kind,
            "why_index": self.why_kind,
            "store": self.place.store,
            "copies": self.copies,
            "chunking": self.space.chunking,
            "truncation": self.space.truncation,
            "sampled": self.sampled.documents,
            "longer_than_the_model_takes": self.sampled.longer,
            "long_texts": self.long_texts,
            "patient": self.patient,
            "fusion": self.fusion,
            "serve_early": self.serve_early,
            "early": self.early,
            "shadow": self.shadow,
            "gates": list(self.gates),
            "quality": self.power.facts if self.power else None,
            "traffic": self.traffic.facts if self.traffic else None,
            "order": [each.told for each in self.turns if not each.waits],
            "waiting": [each.told for each in self.turns if each.waits],
            "until": self.course.until,
            "size_class": advice.size_class(self.documents),
            "batches": advice.batches(name, self.documents, self.bill),
            "maintenance": advice.MAINTENANCE,
            "dump": advice.dump(name),
            "risks": list(self.risks),
            "rollback": ways_back(name, first_fill=self.old is None),
            "locks": self.locks,
            "sql": self.sql,
        }


def is_copy(old: Index | None, space: Space) -> bool:
    return old is not None and old.space.id == space.id


def fate_of_long_texts(sampled: Sampled, space: Space) -> str:
    if space.chunking != NONE:
        fate = f"texts are chunked: {space.chunking}"
    elif space.truncation != BY_THE_MODEL:
        fate = f"texts are cut {space.truncation}"
    else:
        fate = "it cuts or refuses those: --chunk '512 tokens, 64 overlap' or --truncate TOKENS"
    if sampled.max_tokens is None:
        whole = "the model names no longest text"
        return whole if space.chunking == NONE else f"{whole}; {fate}"
    counted = (
        f"{sampled.longer:,} of {sampled.documents:,} sampled documents are longer than the "
        f"{sampled.max_tokens:,} tokens that the model takes"
    )
    return counted if not sampled.longer and space.chunking == NONE else f"{counted}; {fate}"
