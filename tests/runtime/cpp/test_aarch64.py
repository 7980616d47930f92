"""The engine for 64-bit ARM: cross-compiled, run by qemu, on the same networks as here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.runtime.cpp.networks import NETWORKS, write_case, write_weights
from tests.runtime.cpp.programs import SOURCE, build, needs, run

PREFIX = "aarch64-linux-gnu-"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs(f"{PREFIX}g++", f"{PREFIX}objdump", "qemu-aarch64")
    toolchain = SOURCE / "cmake" / "aarch64-linux-gnu.cmake"
    return build("aarch64", tmp_path_factory, f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", "-DMULTIRES_TESTS=ON")


def emulate(program: Path, *arguments: str | Path) -> str:
    return run("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", program, *arguments)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, folder: Path, tmp_path: Path) -> None:
    weights = write_weights(name, tmp_path)
    case, limit = write_case(name, tmp_path), NETWORKS[name].limit
    used, error = emulate(folder / "tests" / "reference_test", weights, case, str(limit)).split()
    assert used == "neon"
    assert 0 < float(error) <= limit
    assert emulate(folder / "tests" / "products_test", weights).startswith("neon:")
    scratch = tmp_path / "scratch"
    assert "passed on neon" in emulate(folder / "tests" / "engine_test", weights, scratch, "50")


def test_elementary_functions(folder: Path) -> None:
    for program in ("math_test", "stored_test"):
        assert emulate(folder / "tests" / program).startswith("neon:")


def test_the_matrix_product_is_vectorised(folder: Path) -> None:
    """A loop of fused multiply-adds on whole vectors, without a call or a value spilled to the stack."""
    assembly = run(f"{PREFIX}objdump", "-d", "--no-show-raw-insn", folder / "libmultires.a")
    lines = [
        (int(match[1], 16), match[2])
        for match in re.finditer(r"^ *([0-9a-f]+):\t(.*)$", assembly, re.MULTILINE)
    ]
    longest = 0
    for at, (address, instruction) in enumerate(lines):
        jump = re.match(r"b\.\w+\t([0-9a-f]+)", instruction)
        if jump is None or not 0 < address - int(jump[1], 16) < 4096:
            continue
        size = (address - int(jump[1], 16)) // 4
        body = [text for _, text in lines[max(0, at - size) : at]]
        if any(re.match(r"bl\t|b\.|str|stp|ret", text) for text in body):
            continue
        longest = max(longest, sum(text.startswith("fmla") and ".4s" in text for text in body))
    assert longest >= 16
