"""The engine for 64-bit ARM: cross-compiled, run by qemu, on the same networks as here.

The cycles of inner loops are those of llvm-mca's model of a Neoverse N2, the nearest to the Cortex-A78.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.cpp.networks import NETWORKS, write_case, write_weights
from tests.runtime.cpp.programs import SOURCE, build, needs, run

PREFIX = "aarch64-linux-gnu-"
# An emulated CPU without dot products and one with them, and the kernels that it runs.
CPUS = {"cortex-a53": "neon", "max": "neondot"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs(f"{PREFIX}g++", f"{PREFIX}objdump", "qemu-aarch64")
    toolchain = SOURCE / "cmake" / "aarch64-linux-gnu.cmake"
    return build("aarch64", tmp_path_factory, f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", "-DMULTIRES_TESTS=ON")


def emulate(cpu: str, program: Path, *arguments: str | Path) -> str:
    return run("qemu-aarch64", "-cpu", cpu, "-L", "/usr/aarch64-linux-gnu", program, *arguments)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, cpu: str, folder: Path, tmp_path: Path) -> None:
    weights = write_weights(name, tmp_path)
    case, limit = write_case(name, tmp_path), NETWORKS[name].limit
    used, error = emulate(cpu, folder / "tests" / "reference_test", weights, case, str(limit)).split()
    assert used == CPUS[cpu]
    assert 0 < float(error) <= limit
    scratch = tmp_path / "scratch"
    assert f"passed on {used}" in emulate(cpu, folder / "tests" / "engine_test", weights, scratch, "brief")


@pytest.mark.parametrize("name", NETWORKS)
def test_products_are_those_of_exact_sums(name: str, folder: Path, tmp_path: Path) -> None:
    output = emulate("max", folder / "tests" / "products_test", write_weights(name, tmp_path))
    assert [line.split(":")[0] for line in output.splitlines()] == ["neon", "neondot"]


def test_elementary_functions(folder: Path) -> None:
    for program in ("math_test", "stored_test"):
        assert emulate("max", folder / "tests" / program).startswith("neon:")


def inner_loops(folder: Path, kernels: str) -> Iterator[list[str]]:
    """The instructions of each loop without a call, a value on the stack, or a loop inside."""
    path = folder / "CMakeFiles" / "multires.dir" / "src" / f"kernels_{kernels}.cpp.o"
    assembly = run(f"{PREFIX}objdump", "-d", "--no-show-raw-insn", path)
    lines = [
        (int(match[1], 16), match[2].split("//")[0].strip())
        for match in re.finditer(r"^ *([0-9a-f]+):\t(.*)$", assembly, re.MULTILINE)
    ]
    for at, (address, instruction) in enumerate(lines):
        jump = re.match(r"b\.\w+\t([0-9a-f]+)", instruction)
        if jump is None or not 0 < address - int(jump[1], 16) < 4096:
            continue
        size = (address - int(jump[1], 16)) // 4
        body = [text for _, text in lines[max(0, at - size) : at]]
        if not any(re.match(r"(bl|br|b|ret|str|stp|cbn?z|tbn?z)\t|b\.", text) for text in body):
            yield body


def count(loop: list[str], instruction: str) -> int:
    return sum(bool(re.match(instruction, text)) for text in loop)


def cycles(loop: list[str]) -> float:
    """Of one iteration."""
    text = "\n".join(["loop:", *loop, "b.ne loop"])
    command = ["llvm-mca-16", "-mtriple=aarch64", "-mcpu=neoverse-n2", "-mattr=+dotprod", "-iterations=200"]
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    found = re.search(r"Total Cycles: +(\d+)", result.stdout)
    assert found is not None
    return int(found[1]) / 200


@pytest.mark.parametrize("kernels", CPUS.values())
def test_the_matrix_product_is_vectorised(kernels: str, folder: Path) -> None:
    """A loop of fused multiply-adds on whole vectors, whose factors are lanes of a vector."""
    by_element = r"fmla\tv\d+\.4s, v\d+\.4s, v\d+\.s\["
    assert max(count(loop, by_element) for loop in inner_loops(folder, kernels)) >= 64


def test_dot_products_are_fast(folder: Path) -> None:
    """One row by 8 vectors is 128 multiply-adds, 4 rows by 4 vectors are 256."""
    needs("llvm-mca-16")
    loops = list(inner_loops(folder, "neondot"))
    # In a loop for one row, all products have the same factor.
    alone = [loop for loop in loops if count(loop, "sdot") == 8 and len(factors(loop)) == 1]
    together = [loop for loop in loops if count(loop, "sdot") == 16 and len(factors(loop)) == 4]
    assert alone and max(map(cycles, alone)) <= 6
    assert together and max(map(cycles, together)) <= 12


def factors(loop: list[str]) -> set[str]:
    """The last operands of the dot products."""
    return {text.split(", ")[-1] for text in loop if text.startswith("sdot")}
