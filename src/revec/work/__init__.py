"""The coalescing queue and the worker that empties it."""
