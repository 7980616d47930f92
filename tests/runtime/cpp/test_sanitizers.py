"""The engine's own C++ test, built with the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from multires_edge.export.folding import fold
from multires_edge.export.graphs.pooling import Pooling
from multires_edge.export.native import native_weights
from tests.conftest import ROOT, random_net, variant

NETWORKS: dict[str, tuple[dict[str, Any], Pooling]] = {
    "fading": ({"depth": 6, "d_model": 20}, Pooling()),
    "uniform": ({"tree_select": "uniform", "memory_size": 20, "kernel_size": 4, "depth": 5}, Pooling()),
    "tokens, batch norm, windowed": ({"encoder": "token", "norm": "batch", "kernel_size": 3}, Pooling(7)),
    "autoregressive": ({"task": "autoregressive", "d_model": 33, "d_output": 70}, Pooling()),
}


def build(folder: Path) -> Path:
    """The test program, compiled without a warning."""
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    cmake = shutil.which("cmake", path=search)
    assert cmake is not None, "cmake is part of the test extra"
    source = str(ROOT / "runtime" / "cpp")
    options = ["-DMULTIRES_TESTS=ON", "-DMULTIRES_SANITIZE=ON"]
    for command in (
        [cmake, "-S", source, "-B", str(folder), *options],
        [cmake, "--build", str(folder), "-j2"],
    ):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "warning:" not in result.stderr, result.stderr
    return folder / "engine_test"


def test_holds_under_sanitizers(tmp_path: Path) -> None:
    """One test for all, for building takes much longer than running."""
    program = build(tmp_path / "build")
    for name, (changes, pooling) in NETWORKS.items():
        weights = tmp_path / "weights.safetensors"
        weights.write_bytes(native_weights(fold(random_net(variant(**changes))), pooling))
        for isa in ("baseline", "avx2", "avx512"):
            result = subprocess.run(
                [program, weights, tmp_path / "scratch.safetensors"],
                env=os.environ | {"MULTIRES_ISA": isa},
                capture_output=True,
                text=True,
                check=False,
            )
            assert result.returncode == 0, f"{name}, {isa}: {result.stderr[-3000:]}"
