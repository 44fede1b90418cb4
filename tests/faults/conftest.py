"""One stage for all fault tests; at the end, how many trials there were and what they prove."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import harness
from tests.faults.harness import Stage

STAGE = pytest.StashKey[Stage]()


@pytest.fixture(scope="session")
def stage(maintenance: str, pytestconfig: pytest.Config) -> Iterator[Stage]:
    with harness.stage(maintenance) as stage:
        pytestconfig.stash[STAGE] = stage
        yield stage


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """No violation in n trials: its rate is below 3/n, with 95% confidence."""
    stage = config.stash.get(STAGE, None)
    if stage is None or not stage.tally:
        return
    terminalreporter.section("faults")
    for what, (trials, violations) in stage.tally.items():
        terminalreporter.line(f"{what}: {trials} trials, {violations} violations")
    trials, violations = map(sum, zip(*stage.tally.values(), strict=True))
    bound = f": below 3/n = {300 / trials:.1f}% at 95%" if trials and not violations else ""
    terminalreporter.line(f"{trials} trials, {violations} violations{bound}")
