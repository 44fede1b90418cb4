"""What every gate keeps: a new one is one new file, and this suite finds it."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import asdict

import psycopg
import pytest

from revec.app import App
from revec.migrate.gates import base as gates
from revec.model.errors import BadInput, RevecError
from revec.model.index import Collection
from revec.model.verdict import Outcome, Verdict
from revec.postgres import migrations
from tests import steps
from tests.loopback import Loopback
from tests.migrate import world


async def asked(app: App, made: Collection, name: str, number: int) -> Verdict:
    """Of the first index by itself, or of the second one with its migration."""
    index = (await steps.written(app, made))[number]
    migration = await world.migration(app, made) if number else None
    return await gates.gate(name).judge(gates.Case(app.tools, index, migration))


@pytest.mark.parametrize("name", gates.names())
async def test_a_verdict_is_the_gate_s_own(app: App, loopback: Loopback, name: str) -> None:
    """With a migration and without one: its name, a reason, figures that are numbers, evidence that is kept."""
    made = await steps.ready(app, 5)
    for number in (0, 1):
        verdict = await asked(app, made, name, number)
        assert verdict.gate == name
        assert isinstance(verdict.outcome, Outcome)
        assert verdict.why
        assert all(value is None or math.isfinite(value) for value in asdict(verdict.figures).values())
        assert json.loads(json.dumps(verdict.evidence)) == verdict.evidence
    async with app.database.transaction() as conn:
        migration = await world.migration(app, made)
        await migrations.record(conn, migration, verdict)
        kept, _ = (await migrations.verdicts(conn, migration))[name]
    assert (kept.why, kept.evidence, kept.figures) == (verdict.why, verdict.evidence, verdict.figures)


# Freshness reads the work, not the vectors.
@pytest.mark.parametrize("name", sorted({*gates.names()} - {"freshness"}))
async def test_nothing_passes_where_nothing_can_be_seen(app: App, loopback: Loopback, name: str) -> None:
    """The index's table is gone: whatever is said or raised, it is no pass."""
    made = await steps.ready(app, 5)
    async with app.database.transaction() as conn:
        await conn.execute("ALTER TABLE revec.vectors_2 RENAME TO elsewhere")
    try:
        async with asyncio.timeout(30):
            verdict = await asked(app, made, name, 1)
    except (RevecError, psycopg.Error):
        return
    assert verdict.outcome is not Outcome.PASSED


def test_a_mistyped_gate_is_a_sentence() -> None:
    """With the names that there are."""
    with pytest.raises(
        BadInput, match=r"there is no gate 'qualty': choose of completeness, errors, fidelity"
    ):
        gates.gate("qualty")
