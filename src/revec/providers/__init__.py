"""Embedding models. One file per provider; `base.py` is the port."""
