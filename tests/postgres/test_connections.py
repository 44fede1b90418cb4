"""A connection that the server ended is a lost connection, by whatever name the driver calls it."""

from __future__ import annotations

import psycopg
import pytest

from revec.app import App
from revec.postgres.database import is_gone
from tests import steps

BACKEND = "SELECT count(*) AS alive FROM pg_stat_activity WHERE pid = %(pid)s"


@pytest.mark.parametrize("then", ["a statement", "the commit"])
async def test_a_transaction_that_was_idle_for_too_long_is_a_lost_connection(app: App, then: str) -> None:
    """As a laptop that slept in the middle of one: who works on meets it as an outage, not as a defect."""
    with pytest.raises(psycopg.OperationalError) as lost:
        async with app.database.transaction() as conn:
            await conn.execute("SET LOCAL idle_in_transaction_session_timeout = '20ms'")
            while (await steps.rows(app, BACKEND, pid=conn.info.backend_pid))[0].alive:
                pass
            if then == "a statement":
                await conn.execute("SELECT 1")
    assert is_gone(lost.value)
    assert "idle-in-transaction" in str(lost.value)
    async with app.database.transaction() as conn:
        await conn.execute("SELECT 1")
