"""What others made and we carry: whose it is, under which licence, and that it is what it says."""

from __future__ import annotations

import json
from hashlib import sha256

from revec.web.console.assets import ASSETS, FOLDER

VENDORED = FOLDER / "vendored"
SAID = json.loads((VENDORED / "vendored.json").read_text(encoding="utf-8"))


def test_every_vendored_file_is_the_one_that_was_published() -> None:
    known = {name: file["sha256"] for package in SAID for name, file in package["files"].items()}
    there = {path.name for path in VENDORED.iterdir()} - {"vendored.json"}
    assert known.keys() == there
    for name, checksum in known.items():
        assert sha256((VENDORED / name).read_bytes()).hexdigest() == checksum, name


def test_every_vendored_package_has_its_licence_and_its_origin() -> None:
    for package in SAID:
        assert package["origin"] == f"npm:{package['name']}@{package['version']}"
        assert package["license"] in {"0BSD", "MIT"}
        assert (VENDORED / package["license_text"]).read_text(encoding="utf-8").strip()


def test_a_file_is_named_by_its_content() -> None:
    """So a browser may keep it for good."""
    assert len({asset.mark for asset in ASSETS.values()}) == len(ASSETS)
    assert not any(b"sourceMappingURL" in asset.body for asset in ASSETS.values())
