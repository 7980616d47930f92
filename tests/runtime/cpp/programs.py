"""Building and running the engine's C++ test programs."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from tests.conftest import ROOT

SOURCE = ROOT / "runtime" / "cpp"
ISAS = ("baseline", "avx2", "avx512", "avx512vnni") if platform.machine() in {"x86_64", "AMD64"} else ("",)


def needs(*tools: str) -> None:
    """Skip the test where a tool is missing; `.ci/run` installs all of them first."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}, which this machine does not have")


def cxx() -> str:
    """The C++ compiler; the test is skipped without."""
    compiler = os.environ.get("CXX", "c++")
    needs(compiler)
    return compiler


def build(
    name: str,
    tmp_path_factory: pytest.TempPathFactory,
    *options: str,
    source: Path = SOURCE,
    targets: Sequence[str] = ("all",),
) -> Path:
    """Configure and compile without a warning, once for all workers of a test run; the build folder."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / f"build-{name}"
    with (root / f"build-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
            cmake = shutil.which("cmake", path=search)
            assert cmake is not None, "cmake is part of the test extra"
            run(cmake, "-S", source, "-B", folder, *options)
            output = run(cmake, "--build", folder, "-j2", "--target", *targets)
            assert "warning:" not in output, output
            (folder / "done").touch()
    return folder


@dataclass(frozen=True)
class TensorRtWheels:
    """What the C++ library for GPUs is compiled against and linked with."""

    tensorrt_headers: Path
    tensorrt: Path
    cuda_headers: Path
    cudart: Path
    tensorrt_rtx: Path

    @property
    def options(self) -> list[str]:
        """For CMake."""
        return [
            "-DMULTIRES_TENSORRT=ON",
            f"-DTENSORRT_INCLUDE_DIR={self.tensorrt_headers}",
            f"-DTENSORRT_LIBRARY={self.tensorrt}",
            f"-DCUDART_INCLUDE_DIR={self.cuda_headers}",
            f"-DCUDART_LIBRARY={self.cudart}",
        ]


def tensorrt_wheels() -> TensorRtWheels | None:
    """Those that are installed; None where one is missing."""
    headers = Path(sys.prefix) / "headers" / "kernel_lens" / "include" / "tensorrt"

    def find(wheel: str, name: str) -> Path:
        files = distribution(wheel).files or []
        return next(Path(str(path.locate())).resolve() for path in files if path.name == name)

    try:
        find("nvidia-cuda-crt", "host_defines.h")  # which CUDA's headers include
        return TensorRtWheels(
            next(headers.glob("NvInferRuntime.h")).parent,
            find("tensorrt-lean-cu12-libs", "libnvinfer_lean.so.10"),
            find("nvidia-cuda-runtime", "cuda_runtime_api.h").parent,
            find("nvidia-cuda-runtime", "libcudart.so.13"),
            find("tensorrt-rtx-cu13-libs", "libtensorrt_rtx.so.1"),
        )
    except (PackageNotFoundError, StopIteration):
        return None


def needed_wheels() -> TensorRtWheels:
    """The same; the test is skipped without."""
    wheels = tensorrt_wheels()
    if wheels is None:
        pytest.skip("needs TensorRT's and CUDA's wheels, which `make test` installs on Linux and x86-64")
    return wheels


def tensorrt_options() -> list[str]:
    """CMake's options for the library for GPUs; none where a package that it needs is missing."""
    wheels = tensorrt_wheels()
    return wheels.options if wheels else []


def build_plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that can be built here, as users build it; the build folder."""
    return build("plain", tmp_path_factory, "-DMULTIRES_TESTS=ON", *tensorrt_options())


# What runs under which sanitizers: compiling everything takes longer than running it.
_SANITIZED = {
    "address,undefined": ("engine_test", "header_test", "products_test", "stored_test", "cuda_test"),
    "thread": ("threads_test", "cuda_test"),
}


def build_sanitized(sanitizers: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Test programs with sanitizers; the folder with the programs."""
    options = ("-DMULTIRES_TESTS=ON", f"-DMULTIRES_SANITIZE={sanitizers}")
    name = sanitizers.partition(",")[0]
    return build(name, tmp_path_factory, *options, targets=_SANITIZED[sanitizers]) / "tests"


def run(*command: str | Path, **environment: str) -> str:
    """What a program prints; fails with the end of it when the program does."""
    result = subprocess.run(
        command,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{command} gave {result.returncode}:\n{result.stdout[-4000:]}"
    return result.stdout
