"""The OpenAPI document is what the door does: generated requests meet no failure and no drift."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import positive_data_acceptance

from revec.app import App
from revec.model.access import Role
from revec.web.server import listening
from tests import steps
from tests.conftest import settings_for
from tests.loopback import Loopback
from tests.web import door

SECONDS = 20.0  # for all operations together
EXAMPLES = 60  # of each operation, at most
PATIENCE = 30.0
# A schema cannot say how many bytes a text has, what metadata must not hold, or which models there are.
UNSAID = [positive_data_acceptance]


@contextmanager
def served(dsn: str, loopback: Loopback) -> Iterator[tuple[str, dict[str, str]]]:
    """The door on a socket, in a thread with a loop of its own: address, and keys by role."""
    ready, stop = threading.Event(), threading.Event()
    found: dict[str, str] = {}
    keys: dict[str, str] = {}

    async def serve() -> None:
        async with App(settings_for(dsn, loopback.url, requests_per_second=1e6)) as app:
            await steps.filled(app, 5)
            for role in Role:
                keys[role] = await door.made_key(app, role, None if role is Role.ADMIN else "default")
            async with listening(door.api_of(app), "127.0.0.1", 0, deadline=5.0) as port:
                found["url"] = f"http://127.0.0.1:{port}"
                ready.set()
                await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield found["url"], keys
    finally:
        stop.set()
        thread.join(PATIENCE)


def test_generated_requests_meet_no_failure_and_no_drift(dsn: str, loopback: Loopback) -> None:
    """As an admin, and in passing as nobody: no 5xx, every answer of a documented kind and shape."""
    with served(dsn, loopback) as (url, keys):
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        refused = schema.config.checks.negative_data_rejection
        refused.expected_statuses = [*refused.expected_statuses, "413"]
        headers = {"Authorization": f"Bearer {keys[Role.ADMIN]}"}
        operations = [result.ok() for result in schema.get_all_operations()]
        for operation in operations:
            drifting(operation, headers, time.monotonic() + SECONDS / len(operations))
        assert len(operations) == 17


def drifting(operation: APIOperation, headers: dict[str, str], until: float) -> None:
    """Requests that fit the operation's description and requests that do not, for a while.

    Raises:
        Exception: of schemathesis, where an answer is none that was described.
    """

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def ask(case: Case) -> None:
        if time.monotonic() < until:
            case.call_and_validate(headers=headers, timeout=10, excluded_checks=UNSAID)

    ask()


def test_every_operation_is_described(app: App) -> None:
    """A sentence, an example where a body is wanted, problems for what goes wrong, a key where one is needed."""
    api = door.api_of(app)
    said = api.openapi()
    assert json.dumps(said)
    for path, operations in said["paths"].items():
        for operation in operations.values():
            assert operation["description"], path
            if path.startswith("/v1/"):
                assert "security" not in operation
                for status in ("401", "403", "404", "422", "429", "503"):
                    content = operation["responses"][status]["content"]
                    assert list(content) == ["application/problem+json"]
            if "requestBody" in operation:
                shape = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                assert said["components"]["schemas"][shape.rsplit("/", 1)[1]]["examples"]
    assert said["paths"]["/livez"]["get"]["security"] == []


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/static/x", "/v1", "/"])
async def test_there_is_no_page_with_scripts_of_others(app: App, path: str) -> None:
    """Nor anything else that a stranger can look at."""
    async with door.door(app) as client:
        door.said(await client.get(path), 401)
        assert (await client.get("/openapi.json")).status_code == 200
