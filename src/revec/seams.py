"""From an address to an engine: "openai:text-embedding-3-small" is `revec.providers.openai`, and
"chroma://host:8000" is `revec.stores.engines.chroma`.

There is no table of engines: the file's name is the address, so a new one is one new file.
"""

from __future__ import annotations

import importlib
import pkgutil
from datetime import date
from typing import TYPE_CHECKING, Any, cast

from revec.model import place
from revec.model.errors import BadInput, MissingExtra
from revec.providers._facts import known_models

if TYPE_CHECKING:  # the port imports numpy, which a door that only steers does not have
    from revec.providers.base import Options, Provider
    from revec.stores.points import Points

PROVIDERS = "revec.providers"
STORES = "revec.stores.engines"
EXAMPLE = "openai:text-embedding-3-small"


def provider(address: str, options: Options) -> Provider:
    """The engine behind `provider:model`, not yet connected to anything.

    Raises:
        BadInput: no such provider, or the address is malformed.
        MissingExtra: the provider's own packages are not installed.
    """
    engine, _, model = address.partition(":")
    if not engine or not model or address != address.strip():
        raise BadInput(
            f"{address!r} is not the address of a model: "
            f"write provider:model, for example {EXAMPLE} (providers: {_listed()})"
        )
    if engine not in provider_names():
        raise BadInput(
            f"there is no provider {engine!r} in {address!r}: "
            f"choose one of {_listed()}, for example {EXAMPLE}"
        )
    return cast("Provider", _loaded(PROVIDERS, engine, address).connect(model, options))


def shutdown(address: str) -> date | None:
    """The day on which the provider switches a model off, as far as it was announced and we know."""
    engine, _, model = address.partition(":")
    facts = known_models(engine).get(model)
    return facts.shutdown if facts else None


def store(address: str, key: str | None) -> Points:
    """The store elsewhere behind an address, not yet connected to.

    Raises:
        BadInput: no such store, or the address is malformed.
        MissingExtra: the store's own packages are not installed.
    """
    parts = place.address(address)
    if parts.scheme not in store_names():
        raise BadInput(
            f"there is no store {parts.scheme!r} in {address!r}: "
            f"choose one of {', '.join(store_names())}, for example chroma://host:8000"
        )
    return cast("Points", _loaded(STORES, parts.scheme, address).connect(parts, key))


def store_names() -> list[str]:
    """Every file of a store elsewhere that is there."""
    return _names(STORES)


def provider_names() -> list[str]:
    """Every provider file that is there; wrappers are packages or private."""
    return _names(PROVIDERS)


def _loaded(room: str, engine: str, address: str) -> Any:
    try:
        return importlib.import_module(f"{room}.{engine}")
    except ImportError as error:
        if (error.name or "").startswith("revec"):
            raise  # a defect of ours: installing an extra would not mend it
        raise MissingExtra(address, engine) from error  # the extra has the engine's name


def _names(room: str) -> list[str]:
    path = importlib.import_module(room).__path__
    return sorted(
        module.name
        for module in pkgutil.iter_modules(path)
        if module.name != "base" and not module.name.startswith("_") and not module.ispkg
    )


def _listed() -> str:
    return ", ".join(provider_names())
