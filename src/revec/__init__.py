"""Revec: change the embedding model under a live search.

`revec.connect` is the library: docs/library.md. Nothing is loaded before it is asked for.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from revec.client.client import Client
    from revec.client.connect import connect
    from revec.client.shapes import ALL_TENANTS, Answer, Document, Receipt, Written
    from revec.client.twin import SyncClient
    from revec.model import errors
    from revec.model.reading import Hit, Mode

__all__ = [
    "ALL_TENANTS",
    "Answer",
    "Client",
    "Document",
    "Hit",
    "Mode",
    "Receipt",
    "SyncClient",
    "Written",
    "__version__",
    "connect",
    "errors",
]

__version__ = version("revec")

_HOMES = {
    "ALL_TENANTS": "revec.client.shapes",
    "Answer": "revec.client.shapes",
    "Client": "revec.client.client",
    "Document": "revec.client.shapes",
    "Hit": "revec.model.reading",
    "Mode": "revec.model.reading",
    "Receipt": "revec.client.shapes",
    "SyncClient": "revec.client.twin",
    "Written": "revec.client.shapes",
    "connect": "revec.client.connect",
    "errors": "revec.model",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'revec' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    found = import_module(f"{_HOMES[name]}.errors") if name == "errors" else getattr(home, name)
    globals()[name] = found  # asked once
    return found


def __dir__() -> list[str]:
    return __all__
