"""Compiling a bundle's network to WebAssembly."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from multires_edge.base.errors import BackendError, require_extra

CPP = Path(__file__).parents[2] / "runtime" / "cpp"
# int8 inputs that the kernels multiply together.
GROUP = 4
# The engine's sources that need no operating system.
_ENGINE = ("c_api_streams.cpp", "pooling.cpp", "running.cpp", "scratch.cpp", "state.cpp", "storage.cpp")
_OPTIONS = (
    # A library without main, whose C library is part of it.
    *("-target", "wasm32-wasi", "-mexec-model=reactor", "-O3", "-DNDEBUG", "-std=c++17", "-Wall", "-Wextra"),
    *("-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-ffunction-sections", "-fdata-sections"),
    # As the engine's CMakeLists.txt: the parts of -ffast-math that change no result.
    *("-fno-math-errno", "-fno-trapping-math", "-Wl,--gc-sections", "-Wl,--strip-all", "-s"),
    # The sanitizers that the compiler adds by itself.
    *("-fno-sanitize=all", "-g0"),
)
SIMD, SCALAR = "-msimd128", "-mno-simd128"


def compile_module(
    network: str, own: Mapping[str, str], output: Path, *, sources: tuple[str, ...] = (), simd: bool = True
) -> None:
    """Compile a network's source to a WebAssembly module.

    ``own`` are further files by name; with a ``network_kinds.h`` the kernels have what that network needs,
    and not what any network needs. ``sources`` are those of ``runtime/cpp/wasm`` beside the stream's. Without
    ``simd`` the kernels are those for any CPU. Raises BackendError, or MissingExtraError without the
    compiler.
    """
    require_extra("page", "compiling WebAssembly", "ziglang")
    kernels = "kernels_wasm.cpp" if simd else "kernels_baseline.cpp"
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        for name, text in {"network.cpp": network, **own}.items():
            (here / name).write_text(text, encoding="utf-8")
        command = [
            *(sys.executable, "-m", "ziglang", "c++", *_OPTIONS, SIMD if simd else SCALAR),
            *(["-DMULTIRES_ONE_NETWORK"] if "network_kinds.h" in own else []),
            *(f"-I{path}" for path in (".", CPP / "src", CPP / "include", CPP / "mcu", CPP / "wasm")),
            *(str(CPP / "src" / name) for name in (*_ENGINE, kernels)),
            *(str(CPP / "wasm" / name) for name in ("wasm_memory.cpp", "wasm_stream.cpp", *sources)),
            *("network.cpp", "-o", str(output.absolute())),
        ]
        # In the folder: with its name in the command, no object would be found in the compiler's cache.
        environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(cache_folder(here / "cache"))}
        result = subprocess.run(
            command, cwd=here, env=environment, capture_output=True, text=True, check=False
        )
    if result.returncode:
        lines = result.stderr.splitlines() or [f"exit code {result.returncode}"]
        why = next((line for line in lines if "error:" in line), lines[-1])
        raise BackendError(f"the WebAssembly module could not be compiled: {why.strip()[-300:]}")


def cache_folder(otherwise: Path) -> Path:
    """The folder of Zig's cache, or ``otherwise`` where no home folder can be written."""
    if given := os.environ.get("ZIG_GLOBAL_CACHE_DIR"):
        return Path(given)
    with contextlib.suppress(OSError, RuntimeError):
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "zig")
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    return otherwise
