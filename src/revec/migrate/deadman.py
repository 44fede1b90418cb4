"""When nobody watches any more while users see a new index: alarm, and roll back where that was wished.

It runs in the serving processes, which are there as long as there are users.
"""

from __future__ import annotations

import asyncio

from revec.migrate.gates.base import Tools
from revec.migrate.guard import DEAD
from revec.migrate.switch import Switch
from revec.model.errors import Refused
from revec.model.migration import Migration
from revec.observe import events
from revec.postgres import guards, migrations
from revec.postgres.database import DATABASE_TROUBLE, first_line

NOBODY = "dead man's switch"
LOOKS = 4.0  # in the time that it may be silent


class DeadMan:
    """`silence`: seconds without a guard that are one too many."""

    def __init__(self, tools: Tools, *, silence: float) -> None:
        self._tools = tools
        self._silence = silence

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(self._silence / LOOKS)
            try:
                await self.look()
            except DATABASE_TROUBLE as error:
                events.emit(events.TryAgain(first_line(error)))

    async def look(self) -> list[int]:
        """The migrations that it spoke up for."""
        spoken = []
        async with self._tools.database.transaction() as conn:
            silent = await guards.silent(conn, self._silence)
            found = [await migrations.by_id(conn, number) for number in sorted(silent)]
            known = {each.id: await guards.of(conn, each) for each in found}
        for migration in found:
            if DEAD not in known[migration.id]:
                spoken.append(migration.id)
                await self._speak(migration, silent[migration.id])
        return spoken

    async def _speak(self, migration: Migration, seconds: float) -> None:
        why = f"no guard has watched for {seconds:.0f} s: run `revec worker`"
        action = "alarm"
        may = migration.guarded_back_at is None and not migration.old_model_gone
        if migration.guard_dead == "rollback" and may:
            try:
                switch = Switch(self._tools, NOBODY)
                await switch.guarded_back(migration, why, {"guard": DEAD, "why": why})
                action = "rolled back"
            except Refused:  # another server was faster, or a person
                return
        async with self._tools.database.transaction() as conn:
            await guards.keep(conn, migration, DEAD, why=why)
            await guards.told(conn, migration, DEAD)
            if action == "alarm":
                evidence = {"guard": DEAD, "why": why}
                await migrations.tell(conn, migration, who=NOBODY, why=f"alarm: {why}", evidence=evidence)
        events.emit(events.Alarmed(migration.id, DEAD, action, why))
