"""Unpacked kits that the tests share."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from multires_edge.runtime.bundle import open_bundle
from multires_edge.runtime.kit.archive import make_kit
from tests.runtime.backends.device.fake_driver import FakeCuda, install_compiler
from tests.runtime.backends.tensorrt.bundles import export

# As on a device: this package is the kit's own, without its compiled part, and there is neither torch nor
# anything else that the kit does not name.
_ALONE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in {absent!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Absent())
import runpy
sys.argv = ["check_device.py", *{arguments!r}]
sys.path[:] = [".", *sys.path[1:], {packages!r}]
runpy.run_path("check_device.py", run_name="__main__")
"""


NATIVE = "multires_edge.runtime.backends._native"


def alone(kit: Path, *arguments: str, absent: Sequence[str] = (NATIVE,)) -> list[str]:
    """A command line that runs the script as on a device."""
    blocked = ["torch", "onnx", "click", "tensorrt", *absent]
    packages = sysconfig.get_path("purelib")
    # Without site there is no hook of an editable installation.
    return [sys.executable, "-S", "-c", _ALONE.format(absent=blocked, arguments=arguments, packages=packages)]


def run_alone(
    kit: Path, *arguments: str, absent: Sequence[str] = (NATIVE,), **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the script as on a device; ``options`` are those of the process."""
    command = alone(kit, *arguments, absent=absent)
    return subprocess.run(command, cwd=kit, capture_output=True, text=True, check=False, **options)


def report_in(folder: Path) -> Any:
    """The report that was written into a folder."""
    return json.loads((folder / "device_report.json").read_text())


def unpack(archive: bytes, folder: Path) -> Path:
    """The one folder in an archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


@pytest.fixture(scope="session")
def for_jetson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle that a Jetson's TensorRT reads, in two precisions, with taps graphs."""
    return export(tmp_path_factory.mktemp("for_jetson"), target="jetpack6").path


@pytest.fixture(scope="session")
def packed(for_jetson: Path) -> bytes:
    """Its kit."""
    return make_kit(open_bundle(for_jetson))


@pytest.fixture(scope="session")
def _unpacked(packed: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(packed, tmp_path_factory.mktemp("unpacked"))


@pytest.fixture
def kit(_unpacked: Path, tmp_path: Path) -> Path:
    """The kit, unpacked; a test may damage it."""
    return Path(shutil.copytree(_unpacked, tmp_path / "kit"))


@pytest.fixture
def check(kit: Path, tmp_path: Path) -> Callable[..., int]:
    """The kit's command in this process, with ONNX Runtime and without timing unless told otherwise."""
    from multires_edge.runtime.kit.command import main

    def run(*arguments: str, folder: Path = kit) -> int:
        given = {"--backend": "onnxruntime", "--steps": "0", "--streams": "1"}
        defaults = [part for pair in given.items() if pair[0] not in arguments for part in pair]
        report = str(tmp_path / "device_report.json")
        return main([*defaults, "--kit", str(folder), "--report", report, *arguments])

    return run


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of compiled kernels."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def our_kernel(driver: FakeCuda, monkeypatch: pytest.MonkeyPatch, kernels: Path) -> FakeCuda:
    """A device for the cuda backend."""
    install_compiler(monkeypatch, kernels)
    return driver
