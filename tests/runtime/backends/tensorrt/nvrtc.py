"""NVRTC of the wheels, through ctypes. As a program it writes rings.ptx again.

python -m tests.runtime.backends.tensorrt.nvrtc
"""

from __future__ import annotations

import ctypes
import re
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

from tests.conftest import ROOT

SOURCE = ROOT / "runtime" / "cpp" / "cuda" / "rings.cu"
PTX = SOURCE.with_suffix(".ptx")
PTX_COMPILER = "nvidia-cuda-nvrtc-cu12"  # of CUDA 12.6: later ones write PTX that JetPack 6 does not read
PTX_OPTIONS = ("--gpu-architecture=compute_75",)


class Nvrtc:
    """The compiler of one wheel."""

    def __init__(self, wheel: str) -> None:
        try:
            paths = [path for path in files(wheel) or () if re.search(r"libnvrtc\.so\.\d+$", str(path))]
        except PackageNotFoundError:
            pytest.skip(f"needs {wheel}, which is in the test extra on x86-64")
        library = Path(str(paths[0].locate())).resolve()
        # Some releases do not find the other part beside them, unless it is loaded.
        for builtins in library.parent.glob(f"libnvrtc-builtins.so.{library.suffix[1:]}.*"):
            ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)
        self._library = ctypes.CDLL(str(library))
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p

    def compile(self, *options: str, cubin: bool = False) -> bytes:
        """rings.cu as PTX, or as machine code. Fails with what the compiler says."""
        program = ctypes.c_void_p()
        self._check(
            "CreateProgram", ctypes.byref(program), SOURCE.read_bytes(), SOURCE.name.encode(), 0, None, None
        )
        flags = ["--std=c++17", *options]
        array = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
        failed = self._library.nvrtcCompileProgram(program, len(flags), array)
        assert not failed, self._get(program, "ProgramLog").decode()
        return self._get(program, "CUBIN" if cubin else "PTX")

    def _get(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(f"Get{what}Size", program, ctypes.byref(size))
        content = ctypes.create_string_buffer(size.value)
        self._check(f"Get{what}", program, content)
        return content.raw

    def _check(self, function: str, *arguments: object) -> None:
        status = getattr(self._library, f"nvrtc{function}")(*arguments)
        assert not status, self._library.nvrtcGetErrorString(status)


def compile_ptx() -> str:
    """rings.ptx, as it should be."""
    return Nvrtc(PTX_COMPILER).compile(*PTX_OPTIONS).rstrip(b"\0").decode()


if __name__ == "__main__":
    PTX.write_text(compile_ptx())
    sys.stdout.write(f"{PTX}\n")
