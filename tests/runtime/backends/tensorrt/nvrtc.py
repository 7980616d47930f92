"""NVRTC of the wheels. As a program it writes rings.ptx again.

python -m tests.runtime.backends.tensorrt.nvrtc
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

from multires_edge.runtime.backends._native import Nvrtc
from tests.conftest import ROOT

SOURCE = ROOT / "runtime" / "cpp" / "cuda" / "rings.cu"
PTX = SOURCE.with_suffix(".ptx")
PTX_COMPILER = "nvidia-cuda-nvrtc-cu12"  # of CUDA 12.6: later ones write PTX that JetPack 6 does not read


def compile_rings(wheel: str, architecture: str, *, ptx: bool = False) -> bytes:
    """rings.cu as machine code, or as PTX, by the compiler of a wheel."""
    try:
        paths = [path for path in files(wheel) or () if re.search(r"libnvrtc\.so\.\d+$", str(path))]
    except PackageNotFoundError:
        pytest.skip(f"needs {wheel}, which is in the test extra on x86-64")
    compiler = Nvrtc(str(Path(str(paths[0].locate())).resolve()))
    options = ["--std=c++17", f"--gpu-architecture={architecture}"]
    return compiler.compile(SOURCE.read_text(), {}, options, ptx)[0]


def compile_ptx() -> str:
    """rings.ptx, as it should be."""
    return compile_rings(PTX_COMPILER, "compute_75", ptx=True).rstrip(b"\0").decode()


if __name__ == "__main__":
    PTX.write_text(compile_ptx())
    sys.stdout.write(f"{PTX}\n")
