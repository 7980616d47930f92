"""NVRTC of the wheels. As a program it writes rings.ptx again.

python -m tests.runtime.backends.tensorrt.nvrtc
"""

from __future__ import annotations

import sys

from tests.conftest import ROOT
from tests.runtime.backends.cuda.compiled import nvrtc_of

SOURCE = ROOT / "runtime" / "cpp" / "cuda" / "rings.cu"
PTX = SOURCE.with_suffix(".ptx")
PTX_CUDA = 12  # 12.6 in the wheels: later ones write PTX that JetPack 6 does not read


def compile_rings(cuda: int, architecture: str, *, ptx: bool = False) -> bytes:
    """rings.cu as machine code, or as PTX, by the compiler of a major version of CUDA."""
    options = ["--std=c++17", f"--gpu-architecture={architecture}"]
    return nvrtc_of(cuda).compile(SOURCE.read_text(), {}, options, ptx)[0]


def compile_ptx() -> str:
    """rings.ptx, as it should be."""
    return compile_rings(PTX_CUDA, "compute_75", ptx=True).rstrip(b"\0").decode()


if __name__ == "__main__":
    PTX.write_text(compile_ptx())
    sys.stdout.write(f"{PTX}\n")
