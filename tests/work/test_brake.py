"""The brake over all that it may see: it yields to what is too slow, by degrees, and always lets go."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from revec.postgres.pulses import DATABASE, SEARCH
from revec.work import brake as brakes
from revec.work.brake import FLOOR, Brake, Seen, brake

everything = settings(max_examples=300, deadline=None)
times = st.floats(0.01, 1e5)
seen_ones = st.builds(
    Seen,
    kind=st.sampled_from([SEARCH, DATABASE]),
    name=st.just("articles"),
    n=st.integers(0, 10_000),
    calm=times,
    ms=times,
)
sights = st.lists(seen_ones, max_size=5)
positions = st.one_of(
    st.just(Brake()), st.floats(FLOOR, 0.999).map(lambda speed: Brake(speed, "searches were slow"))
)
QUICK = Seen(SEARCH, "articles", 1_000, calm=30.0, ms=30.0)


@everything
@given(sights, positions)
def test_it_never_stops_a_backfill_and_says_why_it_slows_it(seen: list[Seen], before: Brake) -> None:
    """Between a twentieth and full speed; a reason exactly where it is below that."""
    after = brake(seen, before)
    assert FLOOR <= after.speed <= 1.0
    assert (after.why is None) == (after.speed == 1.0)


@everything
@given(sights, positions)
def test_one_look_changes_little(seen: list[Seen], before: Brake) -> None:
    """Down to half at most, up by a quarter at most: what comes of it is seen first."""
    after = brake(seen, before)
    assert before.speed / 2 <= after.speed + 1e-9
    assert after.speed <= before.speed * 1.25 + 1e-9


@everything
@given(sights, positions)
def test_it_yields_only_to_what_is_a_fifth_and_milliseconds_slower(seen: list[Seen], before: Brake) -> None:
    """Written anew: too slow is 1.2 times the quiet time and five milliseconds, on enough of them."""
    enough = {SEARCH: 20, DATABASE: 5}
    slow = [s for s in seen if s.n >= enough[s.kind] and s.ms > 1.2 * s.calm and s.ms - s.calm > 5]
    after = brake(seen, before)
    assert (after.speed < before.speed) == bool(slow and before.speed > FLOOR)
    if slow:
        assert after.why in {str(each) for each in slow}


@everything
@given(sights, positions, seen_ones, st.floats(1, 100))
def test_what_is_slower_never_makes_it_faster(
    seen: list[Seen], before: Brake, one: Seen, times: float
) -> None:
    """Of two sights that differ in one time, the slower one leaves no more speed."""
    slower = replace(one, ms=one.ms * times)
    assert brake([*seen, slower], before).speed <= brake([*seen, one], before).speed


@everything
@given(sights, positions)
def test_a_few_searches_prove_nothing(seen: list[Seen], before: Brake) -> None:
    """Chance makes some of them slow."""
    rare = [replace(each, n=min(each.n, 4)) for each in seen]
    assert brake(rare, before).speed >= before.speed


@everything
@given(positions, st.sampled_from([[], [QUICK]]))
def test_it_lets_go_by_itself(before: Brake, calm: list[Seen]) -> None:
    """Where all is quick again, or nobody searches: at full speed after 14 looks, not at once."""
    position = before
    for _ in range(14):
        position = brake(calm, position)
    assert position == Brake()
    if before.speed < 0.5:
        assert brake(calm, before).speed < 1


@everything
@given(st.floats(1, 500), st.floats(0.3, 20), st.floats(0.8, 1.25))
def test_searches_stay_near_their_quiet_time(calm: float, load: float, chance: float) -> None:
    """A backfill that makes them slower in proportion to its speed is held where they are nearly quiet."""
    position = Brake()
    lately: list[float] = []
    wobble = itertools.cycle([1.0, chance**0.1, 1.0])
    for look in range(80):
        ms = calm * (1 + load * position.speed) * next(wobble)
        position = brake([Seen(SEARCH, "articles", 100, calm=calm, ms=ms)], position)
        if look >= 20:
            lately.append(ms)
    most = max(brakes.TOO_SLOW * calm, calm + brakes.NOTICED[SEARCH])
    at_the_floor = calm * (1 + load * FLOOR)
    assert sorted(lately)[len(lately) // 2] <= max(most, at_the_floor) * 1.1
