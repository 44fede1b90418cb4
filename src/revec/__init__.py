"""Revec: change the embedding model under a live search."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("revec")
