"""The kernel compiled by a C++ compiler, and streams that run it on a driver without a GPU."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from multires_edge.base.errors import BackendError
from multires_edge.runtime.backends import _native
from multires_edge.runtime.backends.cuda.backend import find_nvrtc
from multires_edge.runtime.backends.cuda.stepper import CudaStepper
from tests.conftest import ROOT
from tests.runtime.cpp.programs import cxx

HERE = Path(__file__).parent
SOURCES = ROOT / "runtime" / "cpp" / "cuda" / "step"
# The kernel reads words of several values. A library with visible variables would share them with the next
# one, and would never be unloaded.
OPTIONS = (
    "-std=c++17", "-fno-strict-aliasing", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror",
    "-Wno-unused-function",
)  # fmt: skip


def nvrtc_of(cuda: int) -> _native.Nvrtc:
    """The newest NVRTC of CUDA up to a major version. The test is skipped without."""
    try:
        return find_nvrtc(cuda)
    except BackendError:
        pytest.skip(f"needs NVRTC of CUDA {cuda}, which is in the test extra on Linux and x86-64")


def plan_of(weights: bytes, rows: int = 1, threads: int = 0, window: int = -1) -> _native.CudaPlan:
    """A weights file, laid out for blocks of ``rows`` streams."""
    return _native.CudaPlan(_native.Model(weights), rows, threads, window)


def header_of(plan: _native.CudaPlan) -> str:
    """network.h of a plan."""
    return plan.sources["network.h"]


def compile_for_host(plan: _native.CudaPlan, folder: Path, *options: str) -> Path:
    """The kernel of a plan as a library for this machine."""
    return compile_program(plan, folder, HERE / "host.cpp", "-shared", "-fPIC", *options)


def compile_program(
    plan: _native.CudaPlan, folder: Path, program: Path, *options: str, kernel: Path = SOURCES
) -> Path:
    """A program with the kernel of a plan."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "network.h").write_text(header_of(plan))
    (folder / "platform.h").write_text('#include "host.h"\n')
    output = folder / program.stem
    includes = [f"-I{place}" for place in (folder, kernel, HERE)]
    command: list[str | Path] = [cxx(), *OPTIONS, "-O1", *options, *includes, program, "-o", output]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    return output


def stepper_on_host(
    weights: bytes,
    batch: int,
    *options: str,
    rows: int = 1,
    threads: int = 0,
    window: int = -1,
    seed: int = 0,
) -> CudaStepper:
    """Streams on the compiled kernel, with ``rows`` streams in a block of ``threads``."""
    plan = plan_of(weights, rows, threads, window)
    with tempfile.TemporaryDirectory() as folder:
        code = compile_for_host(plan, Path(folder), *options).read_bytes()
    return stepper_on(weights, plan, code, batch, seed)


def stepper_on(weights: bytes, plan: _native.CudaPlan, code: bytes, batch: int, seed: int = 0) -> CudaStepper:
    """Streams on the kernel of a plan, by the driver without a GPU. Its launches have their own orders."""
    from tests.runtime.backends.device.fake_driver import build_driver  # it takes OPTIONS from here

    library = build_driver() / "libcuda.so.1"
    driver = ctypes.CDLL(str(library))
    # An earlier test may have asked for failures, or for another device or none.
    driver.fake_fail(b"", 0)
    driver.fake_device(b"Orin", 8, 7, 16, 30, 1)
    driver.fake_seed(1000 * seed)
    return CudaStepper(_native.Model(weights), plan, code, batch, str(library))


def run(stepper: CudaStepper, inputs: NDArray[Any]) -> NDArray[Any]:
    """Inputs (rows, ..., time); the outputs (rows, d_output, time)."""
    outputs = stepper.run(np.ascontiguousarray(np.moveaxis(inputs, -1, 0)))
    return np.moveaxis(outputs, 0, -1)
