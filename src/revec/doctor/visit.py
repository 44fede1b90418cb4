"""A doctor's visit: one connection to one database, as a door asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from revec.doctor.base import Case
from revec.doctor.examine import Report, examined
from revec.doctor.guarded import guarded
from revec.doctor.looks.models import in_use
from revec.doctor.smoke import Smoke, smoke
from revec.model.errors import BadInput
from revec.postgres.database import Connection
from revec.providers.base import Provider


@dataclass(frozen=True, slots=True)
class Visit:
    conn: Connection
    case: Case
    provider_for: Callable[[str], Provider]

    async def report(self) -> Report:
        """What all looks found."""
        return await examined(self.conn, self.case)

    async def smoke(self) -> list[Smoke]:
        """One try of every model that is known to be used here.

        Raises:
            BadInput: none is, or a model's address is none.
            MissingExtra: a model's packages are not installed.
        """
        async with guarded(self.conn, self.case.limits):
            models = await in_use(self.conn, self.case)
        if not models:
            raise BadInput(
                "no model is known here: name the one to try with --model, e.g. openai:text-embedding-3-small"
            )
        tried = []
        for model in models:
            provider = self.provider_for(model)
            try:
                tried.append(await smoke(self.conn, self.case, provider))
            finally:
                await provider.close()
        return tried
