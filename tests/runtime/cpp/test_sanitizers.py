"""The engine under the address, undefined-behaviour and thread sanitizers, and under valgrind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.cpp.networks import NETWORKS, write_weights
from tests.runtime.cpp.programs import ISAS, build, build_plain, needs, run


def test_address_and_undefined_behaviour(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    options = ("-DMULTIRES_TESTS=ON", "-DMULTIRES_SANITIZE=address,undefined")
    programs = build("address", tmp_path_factory, *options) / "tests"
    for name, other in zip(NETWORKS, [*NETWORKS][1:] + [*NETWORKS][:1], strict=True):
        weights = write_weights(name, tmp_path)
        for isa in ISAS:
            run(programs / "header_test", weights, write_weights(other, tmp_path), MULTIRES_ISA=isa)
            run(programs / "engine_test", weights, tmp_path / "scratch.safetensors", MULTIRES_ISA=isa)
        run(programs / "products_test", weights)
    run(programs / "stored_test")


def test_threads_that_share_a_model(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    needs("setarch")
    options = ("-DMULTIRES_TESTS=ON", "-DMULTIRES_SANITIZE=thread")
    program = build("thread", tmp_path_factory, *options) / "tests" / "threads_test"
    for name in NETWORKS:
        # Older thread sanitizers cannot place their memory where addresses are drawn from many bits.
        run("setarch", "-R", program, write_weights(name, tmp_path))


def test_memory_by_valgrind(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without AVX-512, which it does not know."""
    needs("valgrind")
    programs = build_plain(tmp_path_factory) / "tests"
    valgrind = ["valgrind", "--quiet", "--leak-check=full", "--show-leak-kinds=all"]
    valgrind += ["--errors-for-leak-kinds=all", "--error-exitcode=99"]
    for i, name in enumerate(NETWORKS):
        isa = ("avx2", "baseline")[i % 2]
        weights = write_weights(name, tmp_path)
        run(*valgrind, programs / "engine_test", weights, tmp_path / "scratch", "20", MULTIRES_ISA=isa)
