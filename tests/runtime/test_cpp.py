"""The engine's own C++ test, built with the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture(scope="module")
def engine_test(tmp_path_factory: pytest.TempPathFactory) -> Path:
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    cmake = shutil.which("cmake", path=search)
    assert cmake is not None, "cmake is part of the test extra"
    build = tmp_path_factory.mktemp("cpp")
    options = ["-DMULTIRES_TESTS=ON", "-DMULTIRES_SANITIZE=ON"]
    source = ROOT / "runtime" / "cpp"
    for command in ([cmake, "-S", source, "-B", build, *options], [cmake, "--build", build, "-j2"]):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "warning:" not in result.stderr, result.stderr
    return build / "engine_test"


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_holds_under_sanitizers(engine_test: Path, tmp_path: Path, name: str, isa: str) -> None:
    changes, pooling = NETWORKS[name]
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(native_weights(fold(random_net(variant(**changes))), pooling))
    result = subprocess.run(
        [engine_test, weights, tmp_path / "scratch.safetensors"],
        env=os.environ | {"MULTIRES_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
