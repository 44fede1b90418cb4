"""Of inputs refused together the culprits are found, cheaply, and nobody else is accused."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from revec.model.errors import InputRefused
from revec.work.culprit import send_all


class Provider:
    """Refuses calls as it is told; remembers who was answered and who was buried."""

    def __init__(self, refuses: Callable[[list[int]], bool], *, too_large: bool = False) -> None:
        self.refuses, self.too_large = refuses, too_large
        self.calls = 0
        self.answered: list[int] = []
        self.buried: list[int] = []

    async def send(self, items: list[int]) -> None:
        self.calls += 1
        if self.refuses(items):
            raise InputRefused("no", too_large=self.too_large)
        self.answered += items

    async def bury(self, item: int, _: InputRefused) -> None:
        self.buried.append(item)


@given(st.integers(1, 300), st.data())
async def test_one_culprit_costs_log2_n_and_one(n: int, data: st.DataObject) -> None:
    culprit = data.draw(st.integers(0, n - 1))
    provider = Provider(lambda items: culprit in items)
    await send_all(list(range(n)), provider.send, provider.bury)
    assert provider.buried == [culprit]
    assert sorted(provider.answered) == [at for at in range(n) if at != culprit]
    assert provider.calls - 1 <= math.ceil(math.log2(n)) + 1


@given(st.integers(1, 60), st.data())
async def test_several_culprits_are_all_found(n: int, data: st.DataObject) -> None:
    culprits = data.draw(st.sets(st.integers(0, n - 1)))
    provider = Provider(lambda items: bool(culprits & set(items)))
    await send_all(list(range(n)), provider.send, provider.bury)
    assert sorted(provider.buried) == sorted(culprits)
    assert sorted(provider.answered) == [at for at in range(n) if at not in culprits]
    assert provider.calls <= 1 + len(culprits) * (math.ceil(math.log2(n)) + 2)


@given(st.integers(1, 60), st.integers(1, 10))
async def test_too_much_at_once_accuses_nobody(n: int, most: int) -> None:
    provider = Provider(lambda items: len(items) > most, too_large=True)
    await send_all(list(range(n)), provider.send, provider.bury)
    assert (provider.buried, sorted(provider.answered)) == ([], list(range(n)))


@pytest.mark.parametrize("whim", range(4))
async def test_a_whim_of_the_provider_buries_nobody(whim: int) -> None:
    """It refuses one call for no reason, whichever that is: all are answered."""
    provider = Provider(lambda _: provider.calls == whim)
    await send_all(list(range(8)), provider.send, provider.bury)
    assert (provider.buried, sorted(provider.answered)) == ([], list(range(8)))
