"""NVRTC, the CUDA compiler as a library, through ctypes: needs no package, and no toolkit beside it."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from multires_edge.base.errors import BackendError

_POINTER = ctypes.c_void_p
_MAJORS = (13, 12)  # of CUDA, the newest first
_WHEELS = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12")
_FOLDERS = ("/usr/local/cuda/lib64", "/usr/local/cuda/targets/aarch64-linux/lib")
_INSTALL = (
    "on a Jetson: sudo apt install nvidia-jetpack; elsewhere: pip install nvidia-cuda-nvrtc for CUDA 13, "
    "nvidia-cuda-nvrtc-cu12 for CUDA 12"
)


class Nvrtc:
    """One library. Raises BackendError when it refuses something."""

    def __init__(self, path: str) -> None:
        # The wheels' libraries do not find their other part, unless it is loaded.
        for part in sorted(Path(path).parent.glob("libnvrtc-builtins.so.*")) if os.sep in path else []:
            ctypes.CDLL(str(part), ctypes.RTLD_GLOBAL)
        self._library = ctypes.CDLL(path)
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("Version", ctypes.byref(major), ctypes.byref(minor))
        self.version = (major.value, minor.value)

    def __str__(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"

    def architectures(self) -> list[int]:
        """The compute capabilities that it knows, such as 87."""
        count = ctypes.c_int()
        self._call("GetNumSupportedArchs", ctypes.byref(count))
        known = (ctypes.c_int * count.value)()
        self._call("GetSupportedArchs", known)
        return list(known)

    def compile(
        self, source: str, headers: Mapping[str, str], options: Sequence[str], *, ptx: bool = False
    ) -> tuple[bytes, str]:
        """Machine code, or PTX and a zero byte; and what the compiler says."""
        program = _POINTER()
        texts, names = ([text.encode() for text in part] for part in (headers.values(), headers))
        self._call(
            "CreateProgram", ctypes.byref(program), source.encode(), b"step.cu", len(headers),
            (ctypes.c_char_p * len(texts))(*texts), (ctypes.c_char_p * len(names))(*names),
        )  # fmt: skip
        try:
            flags = [option.encode() for option in options]
            failed = self._library.nvrtcCompileProgram(
                program, len(flags), (ctypes.c_char_p * len(flags))(*flags)
            )
            said = self._get(program, "ProgramLog").rstrip(b"\0").decode("utf-8", "replace")
            if failed:
                lines = said.strip().splitlines() or ["no reason given"]
                raise BackendError(f"NVRTC {self} refuses the kernel: {lines[0]}")
            return self._get(program, "PTX" if ptx else "CUBIN"), said
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _get(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"Get{what}Size", program, ctypes.byref(size))
        content = ctypes.create_string_buffer(size.value)
        self._call(f"Get{what}", program, content)
        return content.raw

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, f"nvrtc{function}")(*arguments)
        if status:
            text = self._library.nvrtcGetErrorString(status).decode("utf-8", "replace")
            raise BackendError(f"nvrtc{function} failed: {text}")


def find_nvrtc(most: int) -> Nvrtc:
    """The newest NVRTC whose code a driver of CUDA ``most`` loads. Raises BackendError if there is none."""
    refused: list[str] = []
    for path in _paths():
        try:
            found = Nvrtc(path)
        except (OSError, AttributeError, BackendError):
            continue
        if found.version[0] <= most:
            return found
        refused.append(str(found))
    newer = f"only NVRTC {refused[0]}, newer than the driver's CUDA {most}, was found" if refused else ""
    raise BackendError(f"the kernel is compiled by NVRTC; {newer or 'it was not found'}: {_INSTALL}")


def _paths() -> Iterator[str]:
    """Where the library may be: with the loader, in CUDA's folder, in NVIDIA's packages."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    folders = ([f"{home}/lib64"] if home else []) + list(_FOLDERS)
    for major in _MAJORS:
        name = f"libnvrtc.so.{major}"
        yield name
        yield from (f"{folder}/{name}" for folder in folders if Path(folder, name).exists())
        yield from _in_wheels(name)


def _in_wheels(name: str) -> Iterator[str]:
    for wheel in _WHEELS:
        try:
            paths = files(wheel) or ()
        except PackageNotFoundError:
            continue
        yield from (str(path.locate()) for path in paths if re.search(rf"/{re.escape(name)}$", str(path)))
