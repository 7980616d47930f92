"""Streams of the cuda backend on libcuda.cpp, with its kernel compiled for the host.

python -m tests.runtime.backends.cuda.on_driver BUNDLE
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.backends.cuda import backend
from multires_edge.runtime.backends.cuda.plan import Plan
from tests.runtime.backends.cuda.compiled import compile_for_host


def compile_kernel(plan: Plan, nvrtc: Any, capability: str) -> bytes:
    """In the place of NVRTC."""
    assert capability == "8.7"
    with tempfile.TemporaryDirectory() as folder:
        return compile_for_host(plan, Path(folder)).read_bytes()


def check(bundle: Bundle, batch: int, pool: str | None = None) -> None:
    """Steps, chunks, a reset and a snapshot, against the native engine."""
    stream, native = (bundle.stream(batch, backend=name, pool=pool) for name in ("cuda", "native"))
    x = np.random.default_rng(1).standard_normal((batch, 2, 40), dtype=np.float32)
    for t in range(5):
        sample = np.ascontiguousarray(x[..., t])
        assert np.allclose(stream.step(sample), native.step(sample), atol=1e-5), t
    stream.reset(rows=[batch - 1])
    native.reset(rows=[batch - 1])
    assert np.allclose(stream.run(x), native.run(x), atol=1e-5)
    native.load_state(stream.save_state())
    stream.reset(rows=[batch - 1])
    stream.load_state(native.save_state(rows=[batch - 1]), rows=[batch - 1])
    native.load_state(stream.save_state(rows=[0]), rows=[0])
    assert np.allclose(stream.run(x), native.run(x), atol=1e-5)


def main() -> None:
    """Check all of it."""
    patches = {"compile_kernel": compile_kernel, "find_nvrtc": lambda most: None}
    for name, function in patches.items():
        setattr(backend, name, function)
    bundle = open_bundle(sys.argv[1])
    check(bundle, 2)
    check(bundle, 70)  # of which several share a block on 16 multiprocessors
    check(bundle, 1, "window:3")
    x = np.random.default_rng(2).standard_normal((3, 2, 30), dtype=np.float32)
    assert np.allclose(bundle.full(backend="cuda")(x), bundle.full(backend="native")(x), atol=1e-5)
    sys.stdout.write("as the native engine\n")


if __name__ == "__main__":
    main()
