"""A model that is asked with what is left over: for reads that nobody waits for.

Each call asks the limiter first, and waits for nothing: where the model rests, or its bucket holds no more
than what live queries need, it is not sent. What is sent stands in the ledger, in a lane of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from revec.model.errors import ProviderError
from revec.observe import traces
from revec.postgres.database import Database
from revec.providers.base import Input, Kind, Provider, TextInput, Traits, Vectors
from revec.work.calls import NOBODY, SHADOW, Ask, NotNow, Report, came_of
from revec.work.prices import price


@dataclass(frozen=True, slots=True)
class Sparing:
    """A Provider; it closes nothing, the model is somebody else's."""

    provider: Provider
    database: Database

    @property
    def name(self) -> str:
        return self.provider.name

    async def traits(self) -> Traits:
        return await self.provider.traits()

    def count(self, texts: Sequence[str]) -> list[int]:
        return self.provider.count(texts)

    async def embed(self, inputs: Sequence[Input], kind: Kind = "document") -> Vectors:
        """
        Raises:
            NotNow: nothing was sent.
            ProviderError: as the provider raised it.
        """
        tokens = sum(self.count([each.text for each in inputs if isinstance(each, TextInput)]))
        ask = Ask(
            model=self.name,
            index_id=None,
            lane=SHADOW,
            inputs=len(inputs),
            tokens=tokens,
            tenants={NOBODY: tokens},
            price=price(self.name),
        )
        async with self.database.transaction("worker") as conn:
            turn = await ask.admit(conn)
        if turn.call is None:
            raise NotNow(f"{self.name}: {turn.why}", retry_after=turn.wait)
        began = time.perf_counter()
        try:
            with traces.embedding(self.name, len(inputs)) as span:
                answer = await self.provider.embed(inputs, kind=kind)
                traces.embedded(span, answer.tokens, answer.matrix.shape[-1])
        except ProviderError as error:
            await self._report(ask, turn.call, came_of(error), began)
            raise
        await self._report(ask, turn.call, Report("ok", answer.tokens, answer.headers), began)
        return answer

    async def close(self) -> None: ...

    async def _report(self, ask: Ask, call: int, report: Report, began: float) -> None:
        ask.tell(report, time.perf_counter() - began)
        async with self.database.transaction("worker") as conn:
            await report.write(conn, call)
