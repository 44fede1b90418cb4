# ruff: noqa: INP001 - a script, not a package
"""docs/schemas/*.json, drawn from the dataclasses that `--json` prints:  python tools/json_schemas.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from revec.cli import overview, status
from revec.migrate.status import Status
from revec.work.overview import Overview

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"
SHAPES = {"status": (status.SCHEMA, Status), "queue": (overview.SCHEMA, Overview)}


def drawn(name: str) -> str:
    """The JSON Schema of what carries this name; a reader is to allow for more than it names."""
    number, model = SHAPES[name]
    shape: dict[str, Any] = TypeAdapter(model).json_schema(mode="serialization")
    shape["properties"] = {"schema": {"const": number}} | shape["properties"]
    shape["required"] = ["schema", *shape["required"]]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": number}
    return json.dumps(head | {"type": "object"} | _plain(shape), indent=1, ensure_ascii=False) + "\n"


def _plain(shape: Any) -> Any:
    """Without titles that say a field's name again."""
    if isinstance(shape, list):
        return [_plain(each) for each in shape]
    if not isinstance(shape, dict):
        return shape
    return {
        key: _plain(value) for key, value in shape.items() if key != "title" or not isinstance(value, str)
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in SHAPES:
        (FOLDER / f"{each}.json").write_text(drawn(each), encoding="utf-8")
