"""The wheel's bill of materials: what is in the wheel, and nothing else."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib
import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

SBOM = ".dist-info/sboms/multires-edge.cdx.json"
METADATA = "Name: multires-edge\nVersion: 1.2.3\nSummary: A.\nLicense-Expression: Apache-2.0\n"
UPLOT = "multires_edge/runtime/monitor/page/uplot"


def load_sbom() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "package"))
        return importlib.import_module("sbom")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The package's wheel, built from a copy of the source."""
    pytest.importorskip("scikit_build_core", reason="needs scikit-build-core, which `make test` installs")
    source, out = tmp_path_factory.mktemp("wheel") / "source", tmp_path_factory.mktemp("wheels")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if tracked.returncode:
        pytest.skip("needs a clone with git")
    for name in filter(None, tracked.stdout.decode().split("\0")):
        if not name.startswith("tests/") and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    # Without optimization: it is not run here.
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", source]
    command += ["--wheel-dir", out, "--config-settings", "cmake.build-type=Debug"]
    subprocess.run(list(map(str, command)), check=True)
    return zipfile.ZipFile(next(out.iterdir()))


def bill_of(wheel: zipfile.ZipFile) -> dict[str, Any]:
    (name,) = (name for name in wheel.namelist() if name.endswith(SBOM))
    bill: dict[str, Any] = json.loads(wheel.read(name))
    return bill


def components_of(part: dict[str, Any]) -> list[dict[str, Any]]:
    """All components below one, at any depth."""
    return [each for one in part.get("components", []) for each in (one, *components_of(one))]


@pytest.mark.slow
@pytest.mark.native
class TestOfTheWheel:
    def test_it_is_a_bill_of_this_package(self, wheel: zipfile.ZipFile) -> None:
        bill = bill_of(wheel)
        assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
        subject = bill["metadata"]["component"]
        assert (subject["name"], subject["licenses"]) == ("multires-edge", [{"expression": "Apache-2.0"}])
        assert Path(wheel.filename or "").name.split("-")[1] == subject["version"]
        references = [subject["bom-ref"], *(each["bom-ref"] for each in components_of(bill))]
        assert len(set(references)) == len(references)
        assert all({entry["ref"], *entry["dependsOn"]} <= set(references) for entry in bill["dependencies"])

    def test_it_names_what_others_made(self, wheel: zipfile.ZipFile) -> None:
        libraries = {
            each["name"]: each for each in components_of(bill_of(wheel)) if each["type"] == "library"
        }
        found = {name: each["licenses"][0]["license"]["id"] for name, each in libraries.items()}
        assert found == {"uplot": "MIT"}
        assert all(each["version"] in each["purl"] for each in libraries.values())
        # Their licences ask for their text.
        assert all(
            "opyright" in each["licenses"][0]["license"]["text"]["content"] for each in libraries.values()
        )

    def test_every_digest_is_that_of_the_file_in_the_wheel(self, wheel: zipfile.ZipFile) -> None:
        files = [each for each in components_of(bill_of(wheel)) if each["type"] != "library"]
        for each in files:
            (digest,) = each["hashes"]
            assert digest["content"] == hashlib.sha256(wheel.read(each["name"])).hexdigest()
            assert each["licenses"]
        names = {each["name"] for each in files}
        kinds = {
            each["type"]: each["licenses"][0]["license"]["id"] for each in files if each["type"] != "file"
        }
        assert kinds == {"machine-learning-model": "Apache-2.0", "data": "CC-BY-4.0"}
        assert any(name.endswith(".so") for name in names)
        assert {"multires_edge/runtime/cpp/cuda/rings.ptx", f"{UPLOT}/uPlot.iife.min.js"} <= names

    def test_the_record_has_every_file(self, wheel: zipfile.ZipFile) -> None:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/RECORD"))
        rows = {path: digest for path, digest, _ in csv.reader(io.StringIO(wheel.read(name).decode()))}
        assert rows.keys() == {entry for entry in wheel.namelist() if not entry.endswith("/")}
        assert len(wheel.namelist()) == len(set(wheel.namelist()))
        for path, digest in rows.items():
            if path != name:
                value = base64.urlsafe_b64encode(hashlib.sha256(wheel.read(path)).digest()).decode()
                assert digest == f"sha256={value.rstrip('=')}"


def small_wheel(path: Path, **more: str) -> Path:
    """As much of a wheel as the bill reads."""
    files = {
        f"{UPLOT}/NOTICE": "uPlot 1.6.32, MIT\n", f"{UPLOT}/LICENSE": "MIT License\n",
        f"{UPLOT}/uPlot.iife.min.js": "/*! uPlot (v1.6.32) */\n", "multires_edge/a.py": "\n",
        "multires_edge-1.2.3.dist-info/METADATA": METADATA,
        "multires_edge-1.2.3.dist-info/RECORD": "multires_edge-1.2.3.dist-info/RECORD,,\n",
    }  # fmt: skip
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in (files | more).items():
            wheel.writestr(name, text)
    return path


def test_the_same_wheel_has_the_same_bill(tmp_path: Path) -> None:
    bills = []
    for name in ("a.whl", "b.whl"):
        load_sbom().add_to(small_wheel(tmp_path / name))
        with zipfile.ZipFile(tmp_path / name) as wheel:
            bills.append(bill_of(wheel))
    assert bills[0] == bills[1] and bills[0]["serialNumber"].startswith("urn:uuid:")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.whl", "b.whl"]


@pytest.mark.parametrize("name", ["multires_edge/font.woff2", "multires_edge/libother.so", "multires_edge/x"])
def test_a_file_of_unknown_origin_stops_the_build(tmp_path: Path, name: str) -> None:
    path = small_wheel(tmp_path / "a.whl", **{name: "?"})
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"a file of an unknown kind; say in package/sbom\.py"):
        load_sbom().add_to(path)
    assert path.read_bytes() == before


def test_uplot_of_another_version_stops_the_build(tmp_path: Path) -> None:
    path = small_wheel(tmp_path / "a.whl", **{f"{UPLOT}/uPlot.iife.min.js": "/*! uPlot (v1.7.0) */\n"})
    with pytest.raises(ValueError, match=r"NOTICE says 1\.6\.32"):
        load_sbom().add_to(path)
