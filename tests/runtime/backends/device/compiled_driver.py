"""libcuda.cpp, compiled: a CUDA driver that needs no GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.runtime.cpp.programs import run, tensorrt_wheels


def build_driver(folder: Path) -> Path:
    """A folder with libcuda.so.1."""
    wheels, compiler = tensorrt_wheels(), shutil.which(os.environ.get("CXX", "c++"))
    if wheels is None or compiler is None:
        pytest.skip("needs a C++ compiler and CUDA's headers, which `make test` installs on Linux and x86-64")
    includes = [f"-I{ROOT / 'runtime' / 'cpp' / 'cuda'}", f"-isystem{wheels.cuda_headers}"]
    source = Path(__file__).with_name("libcuda.cpp")
    options = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    run(compiler, *options, *includes, source, "-o", folder / "libcuda.so.1")
    return folder


def run_on_driver(driver: Path, module: str, *arguments: Path) -> None:
    """Run a module of the tests on the driver of a folder."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = os.environ | {"LD_LIBRARY_PATH": str(driver)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "as the native engine\n"), result.stderr
