"""What the texts cost and how long they take: at the provider's limits, and at the measured speed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from revec.migrate.planning.tokens import Tokens
from revec.model import duration
from revec.postgres.database import Connection
from revec.postgres.queries import beside
from revec.providers.base import Provider, TakesBatches
from revec.work.calls import RESERVE
from revec.work.gather import DISCOUNT
from revec.work.packing import Load, claim_size, limits
from revec.work.prices import MILLION, price
from revec.work.queue import BACKFILL

SQL = beside(__file__)
PAUSE = 5.0  # seconds between two answers that count at most
BATCH_SECONDS = 86_400  # within which providers promise a batch
NOBODY_KNOWS = "nobody knows its price"


@dataclass(frozen=True, slots=True)
class Bill:
    """US dollars and seconds of the whole load."""

    price: Decimal | None  # of a million tokens; None: nobody knows
    tokens: Tokens
    proof: int  # tokens that the gate embeds again each time it looks
    takes_batches: bool
    at_limits: float | None  # None: no limit is known
    measured: float | None  # None: this model has not answered enough yet
    pack: Load  # the most that goes in one call
    claim: int  # documents that fill one

    def cost(self, tokens: int) -> Decimal | None:
        return None if self.price is None else tokens * self.price / MILLION

    @property
    def seconds(self) -> float | None:
        """What the load will take, as far as anything is known."""
        known = [each for each in (self.at_limits, self.measured) if each is not None]
        return max(known, default=None)

    @property
    def told_cost(self) -> str:
        if self.price == 0:
            return "nothing: the model runs here"
        cost, most = self.cost(self.tokens.value), self.cost(self.tokens.upper)
        if cost is None or most is None:
            return (
                f"{NOBODY_KNOWS}: ask the provider for {self.tokens.value:,} tokens; no --budget can be kept"
            )
        half = f", ${cost * DISCOUNT:,.4f} by its batch API (--patient)" if self.takes_batches else ""
        proof = self.cost(self.proof) or Decimal(0)
        return (
            f"${cost:,.4f} (at most ${most:,.4f}){half}; and ${proof:,.4f} for each look of the fidelity gate"
        )

    @property
    def told_time(self) -> str:
        limit = "no limit of this model is known (`revec providers limit MODEL --tokens …` declares one)"
        if self.price == 0:
            limit = "no provider's limit"
        if self.at_limits is not None:
            limit = f"{_long(self.at_limits)} at the provider's limits"
        speed = "its speed was not measured yet"
        if self.measured is not None:
            speed = f"{_long(self.measured)} at the measured speed"
        batch = "; by batches within a day" if self.takes_batches else ""
        return f"{limit}; {speed}{batch}"

    @property
    def facts(self) -> dict[str, Any]:
        sure = {name: self.cost(getattr(self.tokens, name)) for name in ("value", "lower", "upper")}
        cost = {name: None if each is None else float(each) for name, each in sure.items()}
        return {
            "price_per_million": None if self.price is None else float(self.price),
            "cost": cost["value"],
            "cost_lower": cost["lower"],
            "cost_upper": cost["upper"],
            "cost_batch": None
            if cost["value"] is None or not self.takes_batches
            else cost["value"] * float(DISCOUNT),
            "proof_tokens": self.proof,
            "seconds_at_limits": self.at_limits,
            "seconds_measured": self.measured,
            "seconds": self.seconds,
            "seconds_batch": BATCH_SECONDS if self.takes_batches else None,
            "batch_size": self.claim,
        }


async def reckoned(conn: Connection, provider: Provider, tokens: Tokens, proof: int) -> Bill:
    """`proof`: texts that the fidelity gate embeds again."""
    pack = limits(await provider.traits())
    known = await (await conn.execute(SQL.limits, {"model": provider.name})).fetchall()
    asked = {"model": provider.name, "lane": BACKFILL, "pause": PAUSE}
    speed = await (await conn.execute(SQL.speed, asked)).fetchone()
    return Bill(
        price=await asyncio.to_thread(price, provider.name),
        tokens=tokens,
        proof=round(min(proof, tokens.rows) * tokens.mean),
        takes_batches=isinstance(provider, TakesBatches),
        at_limits=_at_limits(known, tokens, pack),
        measured=tokens.value / speed.tokens * speed.seconds if speed and speed.tokens else None,
        pack=pack,
        claim=claim_size(pack, tokens.a_document),
    )


def _at_limits(known: list[Any], tokens: Tokens, pack: Load) -> float | None:
    """What the bucket holds goes at once, the rest as it flows in; a part of it is left for queries."""
    calls = max(tokens.value / pack.tokens, tokens.texts / pack.inputs)
    wanted = {"tokens": tokens.value, "requests": calls}
    seconds = [
        max(0.0, wanted[row.resource] + RESERVE[BACKFILL] * row.capacity - row.level) / row.rate
        for row in known
    ]
    return max(seconds, default=None)


def _long(seconds: float) -> str:
    return duration.told(max(1, seconds))
