"""Each test gets a copy of a healthy database that was made once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from tests import servers
from tests.doctor import patients
from tests.loopback import Loopback

_numbers = count(1)


@pytest.fixture(scope="session")
def healthy_template(maintenance: str) -> str:
    servers.run(maintenance, "CREATE DATABASE template_healthy")
    patients.make_healthy(servers.at(maintenance, dbname="template_healthy"))
    return "template_healthy"


@pytest.fixture(scope="session")
def filled_template(maintenance: str, provider: Loopback) -> str:
    servers.run(maintenance, "CREATE DATABASE template_filled TEMPLATE template_revec")
    patients.make_filled(servers.at(maintenance, dbname="template_filled"), provider.url)
    return "template_filled"


@pytest.fixture
def healthy(maintenance: str, healthy_template: str) -> Iterator[str]:
    """A user's own database with one table of vectors, and nothing of ours."""
    with servers.copied(maintenance, healthy_template, f"healthy_{next(_numbers)}") as dsn:
        yield dsn


@pytest.fixture
def filled(maintenance: str, filled_template: str) -> Iterator[str]:
    """A database with Revec's tables and a collection that is served."""
    with servers.copied(maintenance, filled_template, f"filled_{next(_numbers)}") as dsn:
        yield dsn
