"""Databases for the doctor: a healthy one of a user's own, a healthy one of Revec's, and a visit to either."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from revec.app import App
from revec.doctor.base import Limits
from revec.doctor.examine import Outcome, Report, examined
from revec.doctor.learning import learn
from revec.postgres.database import reached
from tests import servers, steps
from tests.conftest import settings_for

ROWS = 400
UNIT = "l2_normalize((SELECT array_agg(sin(7.77 * n * k + k * k)) FROM generate_series(1, {dims}) AS k)::{type}({dims}))"
INSERT = f"""
INSERT INTO questions (id, org_id, content, embedding)
SELECT n, n % 7, 'question number ' || n, {UNIT.format(dims=24, type="vector")} FROM generate_series({{first}}, {{last}}) AS n"""

# What a careful user has: dims, a graph, an index by tenant, row security that binds everybody.
HEALTHY = (
    "CREATE EXTENSION IF NOT EXISTS vector",
    """CREATE TABLE questions (
        id int PRIMARY KEY, org_id int NOT NULL, content text NOT NULL, embedding vector(24),
        embedding_model text NOT NULL DEFAULT 'one', deleted_at timestamptz)""",
    INSERT.format(first=1, last=ROWS),
    "UPDATE questions SET embedding = NULL, deleted_at = now() WHERE id = 400",
    "CREATE INDEX questions_graph ON questions USING hnsw (embedding vector_cosine_ops)",
    "CREATE INDEX questions_org ON questions (org_id)",
    "ALTER TABLE questions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "CREATE POLICY org ON questions USING (org_id = current_setting('app.org')::int)",
    "VACUUM ANALYZE questions",
)
SMALL = {"many": 100, "unread": 30, "dead_tuples": 100}  # limits for so small a table


async def visited(
    dsn: str,
    *,
    models: Sequence[str] = (),
    shutdown_of: Callable[[str], date | None] = lambda _: None,
    free_bytes: int | None = None,
    **limits: Any,
) -> Report:
    async with reached(dsn) as conn:
        case = await learn(
            dsn,
            conn,
            Limits(**{**SMALL, **limits}),
            models=models,
            shutdown_of=shutdown_of,
            free_bytes=free_bytes,
        )
        return await examined(conn, case)


def names(report: Report) -> list[str]:
    return sorted({finding.name for finding in report.findings})


def blind(report: Report) -> list[str]:
    return [f"{each.name}: {each.why}" for each in report.looked if each.outcome is Outcome.NOT_LOOKED]


def make_healthy(dsn: str) -> None:
    servers.run(dsn, *HEALTHY)


def make_filled(dsn: str, url: str) -> None:
    """A collection of ten documents, served, its worker gone as one should."""

    async def fill() -> None:
        async with App(settings_for(dsn, url)) as app:
            await steps.filled(app, 10)

    asyncio.run(fill())
