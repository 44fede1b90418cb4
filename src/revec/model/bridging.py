"""How a bridge between two models is learnt and gone over: for those too who only steer."""

from __future__ import annotations

DEPTH = 20  # candidates of each query on the old index; 50 make answers no better, and cost twice as much
LEAST_PAIRS = 100  # documents with both vectors: below it a map of hundreds of dims is mostly noise
