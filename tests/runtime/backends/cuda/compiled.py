"""The kernel compiled by a C++ compiler, and a device that runs it."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray

from multires_edge.runtime.backends.cuda.kernel import SOURCES
from multires_edge.runtime.backends.cuda.network import Network
from multires_edge.runtime.backends.cuda.plan import Plan, make_plan
from multires_edge.runtime.backends.cuda.stepper import CudaStepper
from multires_edge.runtime.backends.cuda.weights_file import WeightsFile
from multires_edge.runtime.backends.tensorrt.host import HostDevice

HERE = Path(__file__).parent
# The kernel reads words of several values.
OPTIONS = ("-std=c++17", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function")


def compile_for_host(plan: Plan, folder: Path, *options: str) -> Path:
    """The kernel of a plan as a library for this machine."""
    return compile_program(plan, folder, HERE / "host.cpp", "-shared", "-fPIC", *options)


def compile_program(plan: Plan, folder: Path, program: Path, *options: str, kernel: Path = SOURCES) -> Path:
    """A program with the kernel of a plan."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler on this machine")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "network.h").write_text(plan.header)
    (folder / "platform.h").write_text('#include "host.h"\n')
    output = folder / program.stem
    includes = [f"-I{place}" for place in (folder, kernel, HERE)]
    command: list[str | Path] = [compiler, *OPTIONS, "-O1", *options, *includes, program, "-o", output]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    return output


class CompiledDevice(HostDevice):
    """A device whose kernels are compiled libraries. Every launch has its own order of threads."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self._seeds = itertools.count(seed * 1000)
        self._libraries: list[ctypes.CDLL] = []

    def load(self, library: Path) -> int:
        """The handle of the kernel of a library."""
        self._libraries.append(ctypes.CDLL(str(library)))
        return len(self._libraries) - 1

    def mapped(self, shape: tuple[int, ...], dtype: DTypeLike) -> tuple[NDArray[Any], int]:
        array = self.pinned(shape, dtype)
        return array, array.ctypes.data

    def launcher(
        self, function: int, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[Any]
    ) -> Callable[[], None]:
        addresses = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        library = self._libraries[function]
        library.multires_bind.restype = ctypes.c_void_p
        launch = ctypes.c_void_p(library.multires_bind(addresses))
        return lambda: self.queue(lambda: library.multires_run(launch, grid[0], block[0], next(self._seeds)))


def network_of(weights: bytes, window: int | None = None) -> Network:
    """The network of a weights file."""
    return Network(WeightsFile(weights, Path("weights.safetensors")), window)


def stepper_on_host(
    network: Network, batch: int, *options: str, rows: int = 1, threads: int | None = None, seed: int = 0
) -> CudaStepper:
    """Streams on the compiled kernel, with ``rows`` streams in a block of ``threads``."""
    plan = make_plan(network, rows, threads)
    device = CompiledDevice(seed)
    with tempfile.TemporaryDirectory() as folder:
        kernel = device.load(compile_for_host(plan, Path(folder), *options))
    return CudaStepper(device, kernel, network, plan, batch)


def run(stepper: CudaStepper, inputs: NDArray[Any]) -> NDArray[Any]:
    """Inputs (rows, ..., time); the outputs (rows, d_output, time)."""
    outputs = stepper.run(np.ascontiguousarray(np.moveaxis(inputs, -1, 0)))
    return np.moveaxis(outputs, 0, -1)
