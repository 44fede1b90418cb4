"""`make bench-gates`: how often the gates of quality and latency, and the guard, say what is not true.

    python -m bench.gates [--migrations 300]

Migrations are simulated, so the truth is known: the new model is so many points of nDCG@10 better or worse,
and how it differs from query to query is as real changes of models do it (`bench.differences`). A false pass
is a pass of what is worse by the margin or more, a false fail one of anything else. "2 points worse" is the
margin itself, the hardest there is for a pass. Beside it stands what people do: a point estimate from 200
queries with a tolerance. Streams have popular queries and sessions of a kind, and are looked at after each
value.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.differences import SHAPES, Floats, drawn
from bench.report import Figure, at_least, at_most, finish, print_machine, reported
from revec.statistics.guards import EVEN, SLOW, RateWatch, discordant, guard, proof_below
from revec.statistics.margins import Finding, finding
from revec.statistics.paired import bounds
from revec.statistics.samples import per_session
from revec.statistics.sequences import along

MARGIN = 0.02  # nDCG@10
ALPHA = 0.05
TRUTHS = (-0.05, -0.02, 0.0, 0.02, 0.05)
SIZES = (50, 225, 1_000, 3_000)
POINTS = 200  # queries of the rule that has no bounds
SWAPPED = 100  # migrations of a case that are asked the other way round as well
SESSIONS = 3_000  # of a stream
POPULAR = 2_000  # queries that everybody asks, by Zipf's law; half of all requests
KIND = 0.7  # of a session's own queries, those that differ as its first one does
LATENCY_PAIRS = 20_000
EARLIER = 1_000  # pairs that the threshold of latency is from
REQUESTS = 20_000
CEILING = 0.002  # of the guard

Findings = np.ndarray[Any, np.dtype[np.str_]]


@dataclass(frozen=True, slots=True)
class Tally:
    """Shares of the migrations of one case."""

    passed: float
    failed: float
    flipped: float  # with old and new swapped the bounds are the same, mirrored, and no verdict contradicts

    @property
    def open(self) -> float:
        return 1 - self.passed - self.failed

    def wrong(self, truth: float) -> tuple[float, float]:
        """False passes, false fails."""
        return (self.passed, 0.0) if truth <= -MARGIN else (0.0, self.failed)


def said(lower: Floats, upper: Floats) -> Findings:
    each = [finding(low, high, MARGIN) for low, high in zip(lower, upper, strict=True)]
    return np.array(each, dtype=np.str_)


def tallied(d: Floats) -> Tally:
    """Of differences of shape (migrations, queries); the first hundred are asked the other way round too."""
    lower, upper = bounds(d, ALPHA)
    found = said(lower, upper)
    other_lower, other_upper = bounds(-d[:SWAPPED], ALPHA)
    mirrored = (other_lower == -upper[:SWAPPED]) & (other_upper == -lower[:SWAPPED])
    agreed = [agree(*pair) for pair in zip(found, said(other_lower, other_upper), strict=False)]
    return Tally(
        passed=float(np.isin(found, (Finding.PASS, Finding.SAME)).mean()),
        failed=float((found == Finding.FAIL).mean()),
        flipped=float((mirrored & agreed).mean()),
    )


def agree(one: str, other: str) -> bool:
    """Whether verdicts of new against old and of old against new can both be true."""
    if Finding.SAME in {one, other}:
        return one == other
    return {one, other} != {Finding.PASS} and (
        Finding.FAIL not in {one, other} or Finding.PASS in {one, other}
    )


# --- a fixed set, one look --------------------------------------------------------------------------------


def fixed(migrations: int, rng: np.random.Generator) -> list[Figure]:
    print(f"\na fixed set, one look, margin {MARGIN}; {migrations} migrations of each of {', '.join(SHAPES)}")
    print("queries   truth    PASS    FAIL  cannot tell   wrong in the worst shape")
    figures, flipped = [], []
    for size in SIZES:
        for truth in TRUTHS:
            tallies = [tallied(drawn(shape, truth, (migrations, size), rng)) for shape in SHAPES]
            case, worst = together(tallies), max(max(each.wrong(truth)) for each in tallies)
            flipped.append(case.flipped)
            print(f"{size:7,}  {row(truth, case)}  {worst:12.1%}")
            figures += errors(f"{size:,} queries, truth {truth:+.2f}", case, truth)
    return [*figures, at_least("fixed set: swapping old and new mirrors the verdict", min(flipped), 1.0)]


def by_points(migrations: int, rng: np.random.Generator) -> list[Figure]:
    """What people do: no bounds, a tolerance."""
    print(f"\na point estimate from {POINTS} queries, tolerance {MARGIN}; {migrations} of each shape")
    figures = []
    for truth in TRUTHS:
        means = np.concatenate(
            [drawn(shape, truth, (migrations, POINTS), rng).mean(axis=-1) for shape in SHAPES]
        )
        passed = float((means >= -MARGIN).mean())
        case = Tally(passed, 1 - passed, 1.0)
        print(f"{POINTS:7}  {row(truth, case)}")
        figures.append(
            reported(f"point estimate of {POINTS}, truth {truth:+.2f}: wrong", max(case.wrong(truth)))
        )
    return figures


def row(truth: float, case: Tally) -> str:
    return f"{truth:+.2f}   {case.passed:6.1%}  {case.failed:6.1%}  {case.open:10.1%}"


def together(tallies: list[Tally]) -> Tally:
    return Tally(
        passed=float(np.mean([each.passed for each in tallies])),
        failed=float(np.mean([each.failed for each in tallies])),
        flipped=min(each.flipped for each in tallies),
    )


def errors(case: str, tally: Tally, truth: float) -> list[Figure]:
    passed, failed = tally.wrong(truth)
    wrong = ("false PASS", passed) if truth <= -MARGIN else ("false FAIL", failed)
    return [
        at_most(f"{case}: {wrong[0]}", wrong[1], ALPHA),
        reported(f"{case}: cannot tell", tally.open),
    ]


# --- a stream, looked at after each value -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Requests:
    """In the order in which they come, each shape (requests,)."""

    session: np.ndarray[Any, np.dtype[np.int64]]
    query: np.ndarray[Any, np.dtype[np.int64]]
    difference: Floats


def stream(shape: str, truth: float, rng: np.random.Generator) -> Requests:
    """Sessions of one to many requests: half of them popular queries, the others the session's own."""
    session = np.repeat(np.arange(SESSIONS), rng.geometric(1 / 3, SESSIONS))
    own = np.arange(session.size) + POPULAR
    weights = 1 / np.arange(1, POPULAR + 1)
    popular = rng.choice(POPULAR, size=session.size, p=weights / weights.sum())
    is_popular = rng.random(session.size) < 0.5
    everybodys = drawn(shape, truth, (POPULAR,), rng)[popular]
    alike = drawn(shape, truth, (SESSIONS,), rng)[session]
    alone = drawn(shape, truth, (session.size,), rng)
    owns = np.where(rng.random(session.size) < KIND, alike, alone)
    return Requests(session, np.where(is_popular, popular, own), np.where(is_popular, everybodys, owns))


def by_session(requests: Requests) -> Floats:
    columns = (requests.session.tolist(), requests.query.tolist(), requests.difference.tolist())
    return np.array(per_session(*columns))


def by_query(requests: Requests) -> Floats:
    _, first = np.unique(requests.query, return_index=True)
    return requests.difference[np.sort(first)]


def by_request(requests: Requests) -> Floats:
    return requests.difference


UNITS: dict[str, Callable[[Requests], Floats]] = {
    "session": by_session,
    "distinct query": by_query,
    "request": by_request,
}


def decided(values: Floats, band: Callable[[Floats], tuple[Floats, Floats]]) -> tuple[str, int, bool]:
    """The first verdict and after how many values, and whether the swapped stream mirrors every look."""
    lower, upper = band(values)
    swapped = band(-values)
    passes, fails = lower > -MARGIN, upper < -MARGIN
    mirrored = bool((swapped[0] == -upper).all() and (swapped[1] == -lower).all())
    looks = np.flatnonzero(passes | fails)
    if not looks.size:
        return Finding.CANNOT_TELL, len(values), mirrored
    return (Finding.PASS if passes[looks[0]] else Finding.FAIL), int(looks[0]) + 1, mirrored


def peeking(values: Floats) -> tuple[Floats, Floats]:
    """What people do: the normal interval of a fixed set, looked at all the time, from the 30th value on."""
    n = np.arange(1, len(values) + 1)
    mean = np.cumsum(values) / n
    error = 1.645 * np.sqrt(np.maximum(np.cumsum(values**2) / n - mean**2, 0) / n)
    error[:30] = 2.0
    return mean - error, mean + error


def streams(migrations: int, rng: np.random.Generator) -> list[Figure]:
    each = max(1, migrations // len(SHAPES))
    print(
        f"\nstreams of {SESSIONS:,} sessions, a look after each value; {each} of each shape, margin {MARGIN}"
    )
    print("counted by        bounds       truth    PASS    FAIL  cannot tell   values to decide (median)")
    figures, mirrored = [], []
    for truth in TRUTHS:
        seen = [stream(shape, truth, rng) for shape in SHAPES for _ in range(each)]
        for unit, valued in UNITS.items():
            for name, band in (("sequence", along), ("peeking", peeking)):
                if name == "peeking" and unit != "session":
                    continue
                found = [decided(valued(requests), band) for requests in seen]
                verdicts = np.array([verdict for verdict, *_ in found], dtype=np.str_)
                mirrored += [same for *_, same in found]
                case = Tally(
                    *(float((verdicts == what).mean()) for what in (Finding.PASS, Finding.FAIL)), 1.0
                )
                looks = [n for verdict, n, _ in found if verdict != Finding.CANNOT_TELL]
                median = f"{np.median(looks):,.0f}" if looks else "-"
                print(f"{unit:16}  {name:10}  {row(truth, case)}  {median:>12}")
                title = f"stream by {unit}, {name}, truth {truth:+.2f}"
                if (unit, name) == ("session", "sequence"):
                    figures += errors(title, case, truth)
                elif truth == -MARGIN:
                    figures.append(reported(f"{title}: false PASS", case.passed))
    return [*figures, at_least("stream: swapping mirrors every look", float(np.mean(mirrored)), 1.0)]


# --- rates ------------------------------------------------------------------------------------------------


def latencies(slower: float, size: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Seconds of both arms, pairs alike by half: what one query asks of either."""
    shared, old, new = rng.normal(size=(3, size))
    half = np.sqrt(0.5)
    return 0.05 * np.exp(0.5 * half * (shared + old)), 0.05 * slower * np.exp(0.5 * half * (shared + new))


def latency(migrations: int, rng: np.random.Generator) -> list[Figure]:
    """The threshold is the old arm's p95 over the first pairs, which is not the true one."""
    print(f"\np95 of latency, at most 1.10 of the old arm's, {LATENCY_PAIRS:,} pairs; passed, after (median)")
    figures = []
    for slower in (1.0, 1.05, 1.10, 1.30):
        in_pairs, alone = [], []
        for _ in range(migrations):
            old, new = latencies(slower, LATENCY_PAIRS, rng)
            threshold = float(np.quantile(old[:EARLIER], 0.95))
            pairs = proof_below(EVEN, ALPHA).after(discordant(old[EARLIER:], new[EARLIER:], threshold))
            in_pairs.append(until(pairs, old[EARLIER:], new[EARLIER:], threshold))
            single = proof_below(SLOW, ALPHA).after(new[EARLIER:] > 1.10 * threshold)
            alone.append(single.n if single.enough else None)
        for name, found in (("pairs", in_pairs), ("new arm alone", alone)):
            passed = [n for n in found if n is not None]
            median = f"{np.median(passed):,.0f}" if passed else "-"
            print(f"{slower:.2f} x as slow, {name:14} {len(passed) / migrations:6.1%}  {median:>8}")
            title, share = f"latency, {slower:.2f} x as slow, {name}: passed", len(passed) / migrations
            is_ours = name == "pairs" and slower >= 1.10
            figures.append(at_most(title, share, ALPHA) if is_ours else reported(title, share))
    return figures


def until(watch: RateWatch, old: Floats, new: Floats, threshold: float) -> int | None:
    """How many pairs it took: the watch has counted the discordant ones."""
    if not watch.enough:
        return None
    alone = np.flatnonzero((old > threshold) != (new > 1.10 * threshold))
    return int(alone[watch.n - 1]) + 1


def guarded(migrations: int, rng: np.random.Generator) -> list[Figure]:
    print(f"\nguard, ceiling {CEILING:.1%}, {REQUESTS:,} requests before the fault; requests to notice it")
    watches = [guard(CEILING).after(rng.random(REQUESTS) < CEILING) for _ in range(migrations)]
    false = float(np.mean([watch.enough for watch in watches]))
    figures = [at_most("guard: false alarms at the ceiling", false, 0.005)]
    for rate in (0.01, 0.05):
        took = []
        for watch in (each for each in watches if not each.enough):
            later = watch.after(rng.random(REQUESTS) < rate)
            took.append((later.bet - watch.bet) * later.span + later.n - watch.n if later.enough else np.inf)
        figures += [
            reported(f"guard: requests to notice {rate:.0%}, median", float(np.median(took))),
            reported(f"guard: requests to notice {rate:.0%}, p95", float(np.quantile(took, 0.95))),
        ]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--migrations", type=int, default=300, help="of each case and each shape")
    options = parser.parse_args()
    print_machine()
    rng = np.random.default_rng(0)
    began = time.perf_counter()
    figures = []
    for part in (fixed, by_points, streams, latency, guarded):
        figures += part(options.migrations, rng)
    finish("gates", [*figures, reported("seconds", time.perf_counter() - began)])


if __name__ == "__main__":
    main()
