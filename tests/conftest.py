"""A real cluster a session, a template database, one fresh database a test, the loopback provider."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio
from psycopg.conninfo import conninfo_to_dict

from revec.app import App
from revec.migrate import outlook
from revec.settings import Settings
from tests import places, servers
from tests.copies import Copies
from tests.loopback import Loopback

pytest_plugins = ["tests.faults.report"]

SERVICES = ("OPENAI_", "GEMINI_", "GOOGLE_", "COHERE_", "CO_API_", "VOYAGE_")
MODES = ("embedded", "pooler", "owner")
TRIALS = int(os.environ.get("REVEC_TRIALS", "3"))
LOOK_AGAIN = 0.5  # seconds

RIGHTLY_SKIPPED = (  # also as root, who can install whatever is missing
    "root may write anywhere",
    "the Cranfield collection is not beside this checkout",
    "there is no ../shared/data",
    "subreapers and /proc are Linux's",
    "no control group of memory may be made here",
    "could not import 'ir_measures'",
)


_numbers = count(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A server or a package that could be installed and is not there: no pass, and no silent skip."""
    report = yield
    if report.skipped and os.environ.get("REVEC_REQUIRE_SERVERS") and not hasattr(report, "wasxfail"):
        why = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(each in why for each in RIGHTLY_SKIPPED):
            report.outcome, report.longrepr = "failed", f"skipped, and root could have mended it: {why}"
    return report


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test starts in an empty folder, without the developer's own settings."""
    for name in os.environ:
        if name.startswith(("REVEC_", "PG", *SERVICES)) and name != "REVEC_REQUIRE_SERVERS":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def maintenance() -> Iterator[str]:
    with servers.cluster() as dsn:
        asyncio.run(servers.make_template(dsn, "template_revec"))
        asyncio.run(servers.make_template(dsn, "template_owned", owner=servers.OWNER))
        yield dsn


@pytest.fixture(scope="session")
def copies(maintenance: str) -> Copies:
    return Copies(maintenance)


@pytest.fixture
def pooler(maintenance: str) -> Iterator[str]:
    """One of its own for each test: PgBouncer 1.18 may end after a cancel request."""
    with servers.pgbouncer(maintenance) as dsn:
        yield dsn


@pytest.fixture
def dsn(copies: Copies) -> Iterator[str]:
    """A fresh database on the embedded server, as its superuser."""
    with copies.lent("template_revec") as lent:
        yield lent


@pytest.fixture(params=MODES)
def any_dsn(request: pytest.FixtureRequest, copies: Copies) -> Iterator[str]:
    """The same three times: embedded, through a transaction-mode pooler, as a plain owner."""
    if request.param == "owner":
        yield request.getfixturevalue("owned_dsn")
        return
    with copies.lent("template_revec") as lent:
        if request.param == "pooler":
            name = conninfo_to_dict(lent)["dbname"]
            yield servers.at(request.getfixturevalue("pooler"), dbname=str(name))
        else:
            yield lent


@pytest.fixture
def owned_dsn(copies: Copies) -> Iterator[str]:
    """A fresh database whose owner is no superuser; the login is that owner."""
    with copies.lent("template_owned", servers.OWNER) as lent:
        yield lent


@pytest.fixture
def other_dsn(maintenance: str) -> Iterator[str]:
    """A database without anything of ours: another PostgreSQL, as a store."""
    name = f"other_{next(_numbers)}"
    with servers.copied(maintenance, "template1", name) as copy:
        yield copy


@pytest.fixture(scope="session")
def chroma() -> Iterator[places.ChromaServer]:
    with places.chroma() as running:
        yield running


@pytest.fixture
def store_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """The address of a store of that kind."""

    def address(kind: str) -> str:
        match kind:
            case "postgresql":
                return places.url_of(request.getfixturevalue("other_dsn"))
            case "chroma":
                return request.getfixturevalue("chroma").url
            case "qdrant":
                pytest.importorskip("qdrant_client")
                return f"qdrant:{tmp_path / 'qdrant'}"
        return kind

    return address


@pytest.fixture(scope="session")
def provider() -> Iterator[Loopback]:
    with Loopback() as running:
        yield running


@pytest.fixture
def loopback(provider: Loopback) -> Iterator[Loopback]:
    """The provider, with an empty bill and no faults."""
    provider.clear()
    yield provider
    provider.clear()


def settings_for(dsn: str, url: str, **more: object) -> Settings:
    """Short leases and short waits; everything else as people have it."""
    quick = {"lease": 2.0, "conductor_lease": 1.0, "idle": 0.02, "request_deadline": 1.0}
    here = {"memory": "2G"}  # the workers are in this process, which holds all the tests
    gemini = {"gemini_base_url": url.replace("/v1", "/v1beta"), "gemini_api_key": "k"}
    return Settings(
        **{"dsn": dsn, "openai_base_url": url, "openai_api_key": "k", **gemini, **quick, **here, **more}  # type: ignore[arg-type]
    )


@pytest.fixture(autouse=True)
def look_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that cannot tell yet is looked at again soon: nothing here takes seconds to settle."""
    monkeypatch.setattr(outlook, "VERIFY_EVERY", timedelta(seconds=LOOK_AGAIN))


@pytest_asyncio.fixture
async def app(dsn: str, loopback: Loopback) -> AsyncIterator[App]:
    async with App(settings_for(dsn, loopback.url)) as opened:
        yield opened


@pytest_asyncio.fixture
async def any_app(any_dsn: str, loopback: Loopback) -> AsyncIterator[App]:
    async with App(settings_for(any_dsn, loopback.url)) as opened:
        yield opened
