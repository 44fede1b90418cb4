"""How long something takes or took, for people: the same everywhere."""

from __future__ import annotations

UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def told(seconds: float) -> str:
    """`14 s`, `3 min 20 s`, `1 d`: in the largest unit and the one below it, whole; below one `14 ms`."""
    if 0 < (thousandths := round(1000 * seconds)) < 1000:  # noqa: PLR2004
        return f"{thousandths} ms"
    left = max(0, round(seconds))
    first = next((place for place, (_, size) in enumerate(UNITS) if left >= size), len(UNITS) - 1)
    parts = []
    for name, size in UNITS[first : first + 2]:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts) or "0 s"
