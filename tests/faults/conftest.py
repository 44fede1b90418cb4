"""One stage for all fault tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.copies import Copies
from tests.faults import harness, report
from tests.faults.harness import Stage


@pytest.fixture(scope="session")
def stage(maintenance: str, copies: Copies, pytestconfig: pytest.Config) -> Iterator[Stage]:
    with harness.stage(maintenance, copies) as stage:
        report.counted(pytestconfig, stage.tally)
        yield stage
