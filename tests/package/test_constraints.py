"""What `make` installs is fixed to the last bit, and nothing with a hole that is known."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LINES = [
    line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.lstrip().startswith("#")
]
ENTRIES = [entry.split(" \\\n") for entry in re.split(r"\n(?=\S)", "\n".join(LINES))]
PINS = [Requirement(entry[0]) for entry in ENTRIES]
# The last versions with a hole that is known.
HOLES = {
    "torch": "2.9.1", "onnx": "1.20.1", "onnxruntime": "1.24.0", "onnxruntime-gpu": "1.24.0",
    "pillow": "12.1.0", "jinja2": "3.1.5",
}  # fmt: skip


def requirements() -> list[Requirement]:
    """Everything that pyproject.toml asks for, in any extra, group or build."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [
        project["project"]["dependencies"],
        project["build-system"]["requires"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    return [Requirement(text) for each in lists for text in each]


def test_every_version_has_hashes_and_no_address() -> None:
    assert len(ENTRIES) > 50
    for first, *hashes in ENTRIES:
        assert re.fullmatch(r"[\w.-]+==[\w.+!]+( ; .+)?", first), first
        assert hashes, first
        assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}", line) for line in hashes), first
    assert "://" not in (ROOT / "constraints.txt").read_text()


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_requirement_has_one_version(python: str, machine: str) -> None:
    here = {
        "python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine,
        "sys_platform": "linux", "platform_system": "Linux", "extra": "",
    }  # fmt: skip
    pins: dict[str, list[Requirement]] = {}
    for pin in PINS:
        if pin.marker is None or pin.marker.evaluate(here):
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    assert all(len(found) == 1 for found in pins.values())
    for wanted in requirements():
        name = canonicalize_name(wanted.name)
        if name == "multires-edge" or (wanted.marker is not None and not wanted.marker.evaluate(here)):
            continue
        (pin,) = pins[name]
        (version,) = pin.specifier
        assert wanted.specifier.contains(version.version), (wanted, pin)


def test_no_lowest_version_has_a_hole() -> None:
    found = set()
    for wanted in requirements():
        hole = HOLES.get(wanted.name)
        # No later version supports this Python: the package closes the hole itself.
        old = wanted.marker is not None and wanted.marker.evaluate({"python_version": "3.10"})
        if hole and not (old and wanted.name.startswith("onnxruntime")):
            found.add(wanted.name)
            assert not wanted.specifier.contains(hole), wanted
    assert found == HOLES.keys()


def test_make_installs_nothing_else() -> None:
    """Only the package itself, the lowest versions, and npm's compiler, which has a version, have no hash."""
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    installs = [line for line in text.splitlines() if re.search(r"\$\(PIP\)|pip.* (install|download)", line)]
    assert len(installs) >= 4
    for line in installs:
        assert "--require-hashes" in line or line.startswith(("PIP :=", "OWN :=", "UNLOCKED :=")), line
