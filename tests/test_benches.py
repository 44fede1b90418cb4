"""Benches are run by people, rarely: here they are at least read."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import bench

BENCHES = sorted(path.stem for path in Path(bench.__path__[0]).glob("*.py"))


@pytest.mark.parametrize("name", BENCHES)
def test_every_bench_finds_what_it_measures(name: str) -> None:
    """A name that moved is noticed when it moves."""
    assert importlib.import_module(f"bench.{name}").__doc__
