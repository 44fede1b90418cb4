"""What a person says of tenants: how urgent they are, how large their share is, what they may cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from revec.capture.tenants import LARGEST
from revec.migrate.commands import require_price
from revec.model.errors import BadInput
from revec.model.index import Collection
from revec.postgres import indexes, tenants
from revec.postgres.database import Connection
from revec.postgres.tenants import Said


@dataclass(frozen=True, slots=True)
class Wish:
    """None leaves what was said before."""

    tier: str | None = None
    priority: int | None = None
    weight: int | None = None
    budget: Decimal | None = None  # US dollars
    no_budget: bool = False  # any more

    def __post_init__(self) -> None:
        """
        Raises:
            BadInput: it says nothing, or what no tenant can be.
        """
        said = (self.tier, self.priority, self.weight, self.budget)
        if not self.no_budget and all(each is None for each in said):
            raise BadInput("say a tier, a priority, a weight or a budget")
        if self.weight is not None and not 1 <= self.weight <= LARGEST:
            raise BadInput(
                f"a weight is 1 to {LARGEST:,}, not {self.weight}: `revec tenants pause` holds a tenant"
            )
        if self.priority is not None and abs(self.priority) > LARGEST:
            raise BadInput(f"a priority is {-LARGEST:,} to {LARGEST:,}, not {self.priority}")
        if self.budget is not None and (not self.budget.is_finite() or self.budget < 0):
            raise BadInput(f"a budget is US dollars, 0 or more, not {self.budget}: --no-budget takes it away")


async def say(conn: Connection, collection: Collection, names: Sequence[str], wish: Wish) -> None:
    """It counts from the next page of a backfill on.

    Raises:
        BadInput: a budget, and nobody knows a model's price.
    """
    said = [Said(each, wish.tier, wish.priority, wish.weight) for each in dict.fromkeys(names)]
    await tenants.say(conn, collection.id, said)
    if wish.budget is not None:
        for index in await indexes.writing(conn, collection.id):
            require_price(index.space.address)
    if wish.budget is not None or wish.no_budget:
        await tenants.set_budget(conn, collection, names, None if wish.no_budget else wish.budget)
