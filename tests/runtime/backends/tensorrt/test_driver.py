"""A compiled CUDA driver that needs no GPU, and cuda.h, for what the package calls."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from multires_edge.runtime.backends.device.driver import SIGNATURES
from tests.conftest import ROOT
from tests.runtime.backends.tensorrt.bundles import export
from tests.runtime.cpp.programs import run, tensorrt_wheels


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with libcuda.so.1."""
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
def test_streams_on_a_driver(driver: Path, tmp_path: Path) -> None:
    bundle = export(tmp_path, pool="window:5")
    command = [sys.executable, "-m", "tests.runtime.backends.tensorrt.on_driver", str(bundle.path)]
    environment = os.environ | {"LD_LIBRARY_PATH": str(driver)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "as the native engine\n"), result.stderr


@pytest.mark.native
@pytest.mark.parametrize("status", [0, 801, 803, 999])
def test_doctor_says_what_the_driver_says(driver: Path, status: int) -> None:
    command = [sys.executable, "-m", "multires_edge", "doctor"]
    environment = os.environ | {"LD_LIBRARY_PATH": str(driver), "CUINIT": str(status)}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    if status:
        assert f"cuInit failed: CUDA_ERROR ({status}), of the fake driver" in said
    else:
        assert re.search(r"^ *gpu +Orin, 16 SMs, 30 GiB", said, re.MULTILINE)


def test_signatures_are_those_of_the_header() -> None:
    wheels = tensorrt_wheels()
    if wheels is None:
        pytest.skip("needs CUDA's headers, which `make test` installs on Linux and x86-64")
    header = (wheels.cuda_headers / "cuda.h").read_text()
    # The library has most functions under another name than programs do.
    renamed = re.findall(r"# *define (cu\w+) +(?:__CUDA_API_PTSZ\()?(cu\w+)", header)
    short = {exported: name for name, exported in reversed(renamed)}
    types = {
        "unsigned int": ctypes.c_uint, "size_t": ctypes.c_size_t, "unsigned char": ctypes.c_ubyte,
        "unsigned long long": ctypes.c_ulonglong, "int": ctypes.c_int, "CUdevice": ctypes.c_int,
        "CUresult": ctypes.c_int, "CUdevice_attribute": ctypes.c_int, "CUstreamCaptureMode": ctypes.c_int,
    }  # fmt: skip
    for function, signature in SIGNATURES.items():
        declared = re.search(rf"CUDAAPI {short.get(function, function)}\(([^)]*)\)", header)
        assert declared is not None, function
        # All the rest is pointers, to data or to what the driver keeps.
        parameters = (parameter.strip().rpartition(" ") for parameter in declared[1].split(","))
        kinds = (kind + "*" * name.count("*") for kind, _, name in parameters)
        assert tuple(types.get(kind, ctypes.c_void_p) for kind in kinds) == signature, function
        assert function == dict(renamed).get(function, function), "a later version"
