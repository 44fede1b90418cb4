"""At the end, how many trials there were and what they prove; of all processes that the tests ran in."""

from __future__ import annotations

from typing import Any

import pytest

Tally = dict[str, list[int]]  # what was done: trials, violations

TALLY = pytest.StashKey[Tally]()
OF_A_PROCESS = "faults"  # in what a process of tests sends home when it ends


def counted(config: pytest.Config, tally: Tally) -> None:
    """This process's own, as it grows."""
    config.stash[TALLY] = tally


def pytest_sessionfinish(session: pytest.Session) -> None:
    sent_home: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if sent_home is not None:
        sent_home[OF_A_PROCESS] = session.config.stash.get(TALLY, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Another process has ended: what it counted is ours."""
    tally = node.config.stash.setdefault(TALLY, {})
    for what, counts in getattr(node, "workeroutput", {}).get(OF_A_PROCESS, {}).items():
        tally[what] = [sum(both) for both in zip(tally.get(what, [0, 0]), counts, strict=True)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """No violation in n trials: its rate is below 3/n, with 95% confidence."""
    tally = config.stash.get(TALLY, {})
    if not tally:
        return
    terminalreporter.section("faults")
    for what, (trials, violations) in tally.items():
        terminalreporter.line(f"{what}: {trials} trials, {violations} violations")
    trials, violations = map(sum, zip(*tally.values(), strict=True))
    bound = f": below 3/n = {300 / trials:.1f}% at 95%" if trials and not violations else ""
    terminalreporter.line(f"{trials} trials, {violations} violations{bound}")
