"""Kernels that a bundle carries as PTX."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from multires_edge.cli.main import main
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends import _native
from multires_edge.runtime.backends.cuda import backend
from multires_edge.runtime.backends.cuda.plans import FOLDER
from multires_edge.runtime.backends.device.cuda import CudaDevice
from multires_edge.runtime.backends.native import open_weights
from multires_edge.runtime.engine_builder.kernels import build_kernels
from tests.conftest import random_inputs, variant, within_limit
from tests.runtime.backends.cuda.compiled import nvrtc_of
from tests.runtime.backends.cuda.ptx import compile_ptx

NOT_FOUND = 0  # no NVRTC is of CUDA 0


@pytest.fixture(scope="module")
def built(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    nvrtc_of(12)
    folder = Path(shutil.copytree(exported, tmp_path_factory.mktemp("built") / "bundle"))
    result = CliRunner().invoke(main, ["build", str(folder), "--target", "cuda", "--json"])
    assert result.exit_code == 0, result.output
    names = json.loads(result.output)["kernels"]
    assert sorted(names) == sorted(path.name for path in (folder / FOLDER).iterdir())
    return folder


def plan_of(folder: Path, rows: int, window: int = -1) -> _native.CudaPlan:
    return _native.CudaPlan(open_weights(folder, open_bundle(folder).manifest, "fp32"), rows, 0, window)


def kernel_of(plan: _native.CudaPlan, folder: Path) -> bytes:
    """The kernel for a Jetson Orin without NVRTC."""
    return plan.kernel(87, str(folder / FOLDER), NOT_FOUND, [])


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("window", [-1, 0])
def test_a_device_without_nvrtc_takes_them(rows: int, window: int, built: Path) -> None:
    kernel = kernel_of(plan_of(built, rows, window), built)
    assert kernel.endswith(b"\0")  # as the driver wants text
    # What the drivers of JetPack 6.1 read, for every GPU from Turing on.
    assert b".version 8.5\n.target sm_75\n" in kernel and b".entry multires_step(" in kernel


def test_the_same_files_again(built: Path) -> None:
    before = {path: path.read_bytes() for path in (built / FOLDER).iterdir()}
    paths = build_kernels(open_bundle(built), ["fp32"])
    assert {path: path.read_bytes() for path in paths} == before
    assert paths[-1].name == "cuda.fp32.json"


@pytest.mark.usefixtures("driver")
def test_a_machine_without_the_engine_runs_them(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their plans. The driver translates the PTX that the bundle carries."""
    load = CudaDevice.load

    def translated(self: CudaDevice, image: bytes) -> int:
        return load(self, compile_ptx(image.rstrip(b"\0").decode()))

    monkeypatch.setattr(CudaDevice, "load", translated)
    monkeypatch.setattr(backend, "_has_engine", lambda: False)
    bundle, x = open_bundle(built), random_inputs(variant(), 2, 6)
    stream, native = (bundle.stream(2, backend=name) for name in ("cuda", "native"))
    assert within_limit(stream.step(x[..., 0]), native.step(x[..., 0]))
    assert within_limit(stream.run(x), native.run(x))
    full, whole = (bundle.full(backend=name) for name in ("cuda", "native"))
    assert within_limit(full(x), whole(x))


class TestRefusals:
    def test_a_plan_that_was_not_built(self, built: Path) -> None:
        with pytest.raises(RuntimeError, match="multires-edge build BUNDLE --target cuda"):
            kernel_of(plan_of(built, 1, 17), built)

    def test_a_damaged_file(self, built: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(built, tmp_path / "damaged"))
        for path in (folder / FOLDER).iterdir():
            path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(RuntimeError, match="is damaged; build it again"):
            kernel_of(plan_of(folder, 1), folder)

    def test_options_of_engines(self, exported: Path) -> None:
        result = CliRunner().invoke(main, ["build", str(exported), "--target", "cuda", "--streams", "4"])
        assert result.exit_code == 2 and "--target cuda takes no other options" in result.output
