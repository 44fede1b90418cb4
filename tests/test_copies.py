"""A lent database is as its template was, whatever the test before did to it."""

from __future__ import annotations

import psycopg
import pytest

from tests import servers
from tests.copies import Copies

TEMPLATE = "template_revec"
COUNTS = (
    "SELECT (SELECT count(*) FROM revec.collection), (SELECT count(*) FROM revec.schema_file) > 0,"
    " to_regclass('app.docs') IS NULL, (SELECT max(relpages) FROM pg_class WHERE relname = 'collection')"
)
COLLECTION = "INSERT INTO revec.collection (name) VALUES ('c') RETURNING id"


def lent_twice(copies: Copies, *statements: str) -> tuple[str, str]:
    """The DSNs of two loans, with this done to the first."""
    with copies.lent(TEMPLATE) as first:
        servers.run(first, *statements)
    with copies.lent(TEMPLATE) as second, psycopg.connect(second) as conn:
        assert conn.execute(COUNTS).fetchone() == (0, True, True, 0)
        assert conn.execute(COLLECTION).fetchone() == (1,)
    return first, second


@pytest.mark.parametrize(
    "done",
    [
        (COLLECTION, "ANALYZE revec.collection"),
        ("CREATE SCHEMA app", "CREATE TABLE app.docs (id int)", "CREATE TABLE public.more (id int)"),
        ("DELETE FROM revec.schema_file",),
        ("CREATE TABLE revec.vectors_1 (id int PRIMARY KEY)",),
    ],
)
def test_rows_and_tables_are_set_back(copies: Copies, done: tuple[str, ...]) -> None:
    first, second = lent_twice(copies, *done)
    assert first == second


@pytest.mark.parametrize(
    "done",
    [
        "ALTER TABLE revec.document DISABLE TRIGGER USER",
        "ALTER TABLE revec.document NO FORCE ROW LEVEL SECURITY",
        "CREATE OR REPLACE FUNCTION revec.document_keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "DROP INDEX revec.work_claim",
        "REVOKE SELECT ON revec.document FROM revec_reader",
        "ALTER TABLE revec.collection ADD COLUMN extra int",
        "CREATE FUNCTION public.more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
)
def test_what_cannot_be_set_back_is_thrown_away(copies: Copies, done: str) -> None:
    first, second = lent_twice(copies, done)
    assert first != second


def test_whoever_is_still_connected_is_sent_away(copies: Copies) -> None:
    """A lock that a test left would hold the next one up."""
    with copies.lent(TEMPLATE) as first:
        left = psycopg.connect(first)
        left.execute("LOCK TABLE revec.collection")
    with pytest.raises(psycopg.OperationalError):
        left.execute("SELECT 1")
    left.close()
    assert lent_twice(copies) == (first, first)
