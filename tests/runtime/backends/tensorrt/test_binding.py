"""The real CUDA binding for Python, which loads a driver that needs no GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.runtime.backends.tensorrt.bundles import export
from tests.runtime.cpp.programs import run, tensorrt_wheels


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with libcuda.so.1."""
    pytest.importorskip("cuda.bindings.driver", reason="needs the tensorrt extra")
    wheels, compiler = tensorrt_wheels(), shutil.which(os.environ.get("CXX", "c++"))
    if wheels is None or compiler is None:
        pytest.skip("needs a C++ compiler and CUDA's headers, which `make test` installs on Linux and x86-64")
    folder = tmp_path_factory.mktemp("driver")
    includes = [f"-I{ROOT / 'runtime' / 'cpp' / 'cuda'}", f"-isystem{wheels.cuda_headers}"]
    source = Path(__file__).with_name("libcuda.cpp")
    options = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    run(compiler, *options, *includes, source, "-o", folder / "libcuda.so.1")
    return folder


@pytest.mark.native
def test_streams_through_the_real_binding(driver: Path, tmp_path: Path) -> None:
    bundle = export(tmp_path, pool="window:5")
    command = [sys.executable, "-m", "tests.runtime.backends.tensorrt.on_binding", str(bundle.path)]
    environment = os.environ | {"LD_LIBRARY_PATH": str(driver)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "as the native engine\n"), result.stderr
