"""Barriers: the thread sanitizer finds no race with all of them, and one without any of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from multires_edge.export.folding import fold
from multires_edge.export.native_weights import native_weights
from multires_edge.format.pooling import Window
from multires_edge.runtime.backends import _native
from tests.conftest import random_net, variant
from tests.runtime.backends.cuda.compiled import HERE, SOURCES, compile_program, plan_of
from tests.runtime.cpp.networks import NETWORKS

# One has its norms before the blocks, a second convolution and a softmax; one has its norms after.
BEFORE = {
    "norm": "rms", "norm_place": "before", "mixing_output": True, "d_model": 20, "d_output": 70,
    "output_activation": "softmax",
}  # fmt: skip
AFTER = {"norm": "layer", "d_model": 37}
BARRIERS = (SOURCES / "step.cu").read_text().count("barrier();")

pytestmark = [pytest.mark.slow, pytest.mark.native]


def small_plan(changes: dict[str, Any]) -> _native.CudaPlan:
    weights = native_weights(fold(random_net(variant(**changes))), Window(2))
    return plan_of(weights, rows=2, threads=64)


def races(plan: _native.CudaPlan, folder: Path, kernel: Path = SOURCES) -> bool:
    """Whether the thread sanitizer finds a race in some steps."""
    checked = ("-fsanitize=thread", "-g", "-pthread")
    program = compile_program(plan, folder, HERE / "races.cpp", *checked, kernel=kernel)
    (folder / "weights").write_bytes(plan.weights)
    environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=1 exitcode=66"}
    result = subprocess.run(
        [program, folder / "weights"], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode in (0, 66), result.stderr
    assert (result.returncode == 66) == ("data race" in result.stderr)
    return result.returncode == 66


@pytest.mark.parametrize("changes", [BEFORE, AFTER])
def test_no_thread_reads_what_another_writes(changes: dict[str, Any], tmp_path: Path) -> None:
    assert not races(small_plan(changes), tmp_path)


@pytest.mark.parametrize("name", ["int8-queues", "tokens-windowed", "float16", "plain-int8", "windows"])
def test_in_networks_of_other_types(name: str, tmp_path: Path) -> None:
    network = NETWORKS[name]
    weights = network.weights()
    assert not races(plan_of(weights, rows=2, threads=64), tmp_path)


@pytest.mark.parametrize("spare", range(BARRIERS))
def test_without_a_barrier_one_does(spare: int, tmp_path: Path) -> None:
    """The sanitizer sees the missing barrier, so it would see a forgotten one."""
    kernel = Path(shutil.copytree(SOURCES, tmp_path / "kernel"))
    parts = re.split(r"(?<=barrier\(\);)", (kernel / "step.cu").read_text())
    parts[spare] = parts[spare].removesuffix("barrier();") + "{}"
    (kernel / "step.cu").write_text("".join(parts))
    assert any(races(small_plan(changes), tmp_path / "built", kernel) for changes in (BEFORE, AFTER))
