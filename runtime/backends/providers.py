"""ONNX Runtime and its execution providers: which are here, and how to install the CUDA provider."""

from __future__ import annotations

import io
import os
import platform
from contextlib import redirect_stdout
from functools import cache
from typing import Any

from multires_edge.base.errors import BackendError, MissingExtraError
from multires_edge.base.installation import pip_install
from multires_edge.format.targets import Version
from multires_edge.runtime.backends.device.gpu import why_no_gpu

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_SHORT_NAMES = {"cpu": CPU, "cuda": CUDA}
CUDA_NAMES = ("cuda", CUDA)


def load_onnxruntime() -> Any:
    """The module ``onnxruntime``, without its telemetry. Raises MissingExtraError.

    Newer releases send events to their publisher, and their import writes an identifier of the machine into
    the home folder, unless this variable is set before.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", "onnxruntime", "the onnxruntime backend") from None
    return onnxruntime


def release() -> Version:
    """The installed ONNX Runtime's release, such as (1, 25). Raises MissingExtraError."""
    return tuple(int(part) for part in load_onnxruntime().__version__.split(".")[:2])


def full_name(provider: str, ort: Any) -> str:
    """ONNX Runtime's name of a provider. Raises BackendError with the available providers."""
    name, available = _SHORT_NAMES.get(provider, provider), ort.get_available_providers()
    if name not in available:
        short = {full: short for short, full in _SHORT_NAMES.items()}
        has = ", ".join(short.get(full, full) for full in available)
        install = f": {install_cuda()}" if name == CUDA else ""
        raise BackendError(
            f"provider {provider!r} is not in this onnxruntime {ort.__version__}, which has only {has}"
            f"{install}"
        )
    return name


def install_cuda() -> str:
    """How to install an ONNX Runtime with the CUDA provider."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return "its package is for x86-64 alone; use backend 'tensorrt'"
    packages = ("onnxruntime", "onnxruntime-gpu")
    if None not in map(_installed, packages):
        # Both unpack into one folder.
        return f"pip uninstall {' '.join(packages)}, then {pip_install('gpu')}"
    return f"{pip_install('gpu')} in an environment without onnxruntime"


def _installed(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _preload() -> str | None:
    """Load CUDA's libraries from Python's packages. Returns the first that is missing, by its error."""
    said = io.StringIO()
    preload = getattr(load_onnxruntime(), "preload_dlls", None)
    if preload is not None:
        with redirect_stdout(said):
            preload()
    failed = [line for line in said.getvalue().splitlines() if line.startswith("Failed to load")]
    return failed[0] if failed else None


def why_no_cuda() -> str | None:
    """Why the CUDA provider cannot run here, and what to do; None if nothing is known to be missing."""
    if (no_gpu := why_no_gpu()) is not None:
        return no_gpu
    if CUDA not in load_onnxruntime().get_available_providers():
        return install_cuda()
    missing = _preload()
    return f"{missing}: {install_cuda()}" if missing else None
