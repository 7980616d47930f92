"""The kernel of a plan, compiled for this machine's GPU, and kept for the next start."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from multires_edge.base.errors import BackendError, OutputError
from multires_edge.base.files import disk_errors, read_regular, write_file
from multires_edge.runtime.backends.cuda.nvrtc import Nvrtc
from multires_edge.runtime.backends.cuda.plan import Plan

SOURCES = Path(__file__).parents[2] / "cpp" / "cuda" / "step"
ENTRY = "multires_step"
_MOST_CODE = 1 << 26  # bytes of a compiled kernel
_DIGEST = 32  # bytes of the SHA-256 in front of it


def sources(plan: Plan) -> tuple[str, dict[str, str]]:
    """The kernel of a plan for a GPU, and its headers by name. Raises BackendError."""
    try:
        headers = {path.name: path.read_text("utf-8") for path in sorted(SOURCES.glob("*.h"))}
        source = (SOURCES / "step.cu").read_text("utf-8")
        headers["platform.h"] = headers.pop("gpu.h")
    except (OSError, KeyError) as error:
        raise BackendError(f"{SOURCES}: this installation is damaged; install it again") from error
    return source, headers | {"network.h": plan.header}


def compile_kernel(plan: Plan, nvrtc: Nvrtc, capability: str) -> bytes:
    """Machine code for a compute capability such as "8.7".

    A GPU that is newer than NVRTC gets PTX, which its driver translates. Raises BackendError.
    """
    source, headers = sources(plan)
    wanted = int(capability.replace(".", ""))
    known = [architecture for architecture in nvrtc.architectures() if architecture <= wanted]
    if not known:
        raise BackendError(
            f"NVRTC {nvrtc} does not know compute capability {capability}: install an older NVRTC, or use "
            "backend native"
        )
    ptx = wanted not in known
    options = [
        "--std=c++17",
        f"--gpu-architecture={f'compute_{max(known)}' if ptx else f'sm_{wanted}'}",
    ]
    kept = _file_for(source, headers, options, nvrtc)
    code = _read(kept)
    if code is None:
        code, _ = nvrtc.compile(source, headers, options, ptx=ptx)
        _keep(kept, code)
    return code


def _file_for(source: str, headers: dict[str, str], options: Sequence[str], nvrtc: Nvrtc) -> Path | None:
    """The file that keeps what these arguments compile to; None for a user without a home."""
    digest = hashlib.sha256(repr((source, sorted(headers.items()), options, nvrtc.version)).encode())
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return home / "multires-edge" / "kernels" / f"{digest.hexdigest()}.bin"


def _read(path: Path | None) -> bytes | None:
    """The kernel in a file of an earlier start; None if the file is missing or damaged."""
    try:
        content = b"" if path is None else read_regular(path, _MOST_CODE)
    except OSError:
        return None
    code = content[_DIGEST:]
    return code if content[:_DIGEST] == hashlib.sha256(code).digest() else None


def _keep(path: Path | None, code: bytes) -> None:
    """Write a file for the next start. A machine without a place for it compiles again."""
    if path is None:
        return
    with suppress(OutputError):
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(path, hashlib.sha256(code).digest() + code, force=True)
