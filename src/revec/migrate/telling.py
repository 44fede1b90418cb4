"""Every move is told to a webhook, if there is one: at least once, behind the move, by one process at a time.

Each message has an id that a receiver may know it by, and says who moved what and why; nothing of a document.
"""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import UUID

from revec.model.errors import Unavailable
from revec.observe import events
from revec.observe.failpoints import failpoint
from revec.observe.webhooks import Hook
from revec.postgres import leases, outbox
from revec.postgres.database import Database

LEASE = "webhooks"
AT_ONCE = 10
FORGET_AFTER = 3_600.0  # seconds, where there is no webhook
FORGET_EVERY = 60.0


class Teller:
    def __init__(self, database: Database, hook: Hook | None, holder: UUID, *, lease: float) -> None:
        self._database = database
        self._hook = hook
        self._holder = holder
        self._lease = lease
        self._forget_at = 0.0

    async def tick(self) -> bool:
        """Tell what is due; whether anything was heard."""
        if self._hook is None:
            await self._forget()
            return False
        async with leases.held(self._database, LEASE, self._holder, self._lease) as mine:
            if not mine:
                return False
            async with self._database.transaction() as conn:
                rows = await outbox.due(conn, AT_ONCE)
            return any([await self._told(self._hook, row) for row in rows])

    async def _told(self, hook: Hook, row: Any) -> bool:
        """Outside any transaction: a slow receiver holds nothing up."""
        try:
            await hook.send(f"{row.event_id}", message(row), at=int(time.time()))
        except Unavailable as error:
            events.emit(events.TryAgain(str(error)))
            async with self._database.transaction() as conn:
                await outbox.again(conn, row.event_id, str(error))
            return False
        failpoint("webhook_sent")
        async with self._database.transaction() as conn:
            await outbox.heard(conn, row.event_id)
        return True

    async def _forget(self) -> None:
        if time.monotonic() < self._forget_at:
            return
        self._forget_at = time.monotonic() + FORGET_EVERY
        async with self._database.transaction() as conn:
            await outbox.forget(conn, older=FORGET_AFTER)

    async def leave(self) -> None:
        async with self._database.transaction() as conn:
            await leases.give_back(conn, LEASE, self._holder)


def message(row: Any) -> bytes:
    """One event as JSON; `became` is null where something happened within a state."""
    said = {
        "id": str(row.event_id),
        "at": row.at.isoformat(),
        "collection": row.collection,
        "migration": row.migration,
        "to": row.target,
        "who": row.who,
        "was": row.was,
        "became": row.became,
        "why": row.why,
        "epoch": row.epoch,
    }
    return json.dumps(said, ensure_ascii=False).encode()
