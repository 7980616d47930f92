"""The engine in C++ on this machine, on every instruction set: its numbers, and its real-time promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.cpp.networks import NETWORKS, write_case, write_weights
from tests.runtime.cpp.programs import ISAS, build_plain, run


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_plain(tmp_path_factory) / "tests"


@pytest.mark.parametrize("name", NETWORKS)
def test_the_reference(name: str, programs: Path, tmp_path: Path) -> None:
    weights, case = write_weights(name, tmp_path), write_case(name, tmp_path)
    for isa in ISAS:
        program: list[str | Path] = [programs / "reference_test", weights, case, str(NETWORKS[name].limit)]
        used, error = run(*program, MULTIRES_ISA=isa).split()
        assert used in {isa, "baseline", "neon"}  # a lesser CPU falls back
        assert 0 < float(error) <= NETWORKS[name].limit


def test_a_wrong_reference_is_noticed(programs: Path, tmp_path: Path) -> None:
    weights, case = write_weights("fading", tmp_path), write_case("uniform", tmp_path)
    with pytest.raises(AssertionError, match="gave 1"):
        run(programs / "reference_test", weights, case)


@pytest.mark.parametrize("program", ["math_test", "stored_test"])
def test_functions_and_conversions(program: str, programs: Path) -> None:
    assert run(programs / program).split(":")[0] in {"baseline", "neon"}


@pytest.mark.parametrize("name", NETWORKS)
def test_products_are_those_of_exact_sums(name: str, programs: Path, tmp_path: Path) -> None:
    output = run(programs / "products_test", write_weights(name, tmp_path))
    assert output.split(":")[0] in {"baseline", "neon"}


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_allocate_nothing_and_call_nothing(name: str, programs: Path, tmp_path: Path) -> None:
    weights = write_weights(name, tmp_path)
    for isa in ISAS:
        assert "no allocation, no system call" in run(programs / "realtime_test", weights, MULTIRES_ISA=isa)
