"""Stores elsewhere, one file each; its name is the address's scheme. `stores/points.py` is their port."""
