"""Every error of ours is a sentence with a way out; the tree at the top of the file is the tree."""

from __future__ import annotations

import inspect
import re

from revec.model import errors
from revec.model.errors import MissingExtra, ProviderUnavailable, RevecError

CLASSES = {
    name: found
    for name, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, RevecError)
}


def test_the_picture_is_the_tree() -> None:
    """Names and depths of the docstring are names and bases of the classes."""
    drawn: dict[str, str] = {}
    above = ["RevecError"]
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([ │]*)[├└]── (\w+) ", line):
            depth = len(found[1]) // 4 + 1
            del above[depth:]
            drawn[found[2]] = above[-1]
            above.append(found[2])
    real = {name: found.__base__.__name__ for name, found in CLASSES.items() if name != "RevecError"}
    assert drawn == real


def test_every_error_says_what_it_means() -> None:
    """Its docstring is one sentence."""
    for name, found in CLASSES.items():
        assert found.__doc__, name
        assert found.__doc__.endswith("."), name


def test_a_missing_extra_names_the_command() -> None:
    """The sentence can be pasted."""
    sentence = str(MissingExtra("local:minilm-384", "local"))
    assert sentence == "local:minilm-384 needs an optional package: pip install 'revec[local]'"


def test_a_provider_may_name_its_time() -> None:
    """Seconds to wait where the provider said so, nothing where it did not."""
    assert ProviderUnavailable("later", retry_after=3.0).retry_after == 3.0
    assert ProviderUnavailable("later").retry_after is None
