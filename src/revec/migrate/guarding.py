"""The guard's round: one process at a time looks at every migration, whatever the conductor is busy with."""

from __future__ import annotations

from uuid import UUID

from revec.migrate.gates.base import Tools
from revec.migrate.guard import Guard
from revec.migrate.under_way import apart
from revec.postgres import leases, migrations

LEASE = "guard"


class Guarding:
    def __init__(self, tools: Tools, holder: UUID) -> None:
        self._tools = tools
        self._guard = Guard(tools)
        self._holder = holder

    async def tick(self) -> bool:
        """Nothing where another one looks; a look every moment is enough, so it never says that it moved."""
        database = self._tools.database
        async with leases.held(database, LEASE, self._holder, self._tools.limits.lease) as mine:
            if not mine:
                return False
            async with database.transaction() as conn:
                under_way = await migrations.active(conn)
            for migration in under_way:
                await apart("the guard", self._guard.tick, migration)
        return False

    async def leave(self) -> None:
        """Let another worker look at once."""
        async with self._tools.database.transaction() as conn:
            await leases.give_back(conn, LEASE, self._holder)
