"""The engine under the address, undefined-behaviour and thread sanitizers, and under valgrind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.cpp.networks import NETWORKS, write_weights
from tests.runtime.cpp.programs import ISAS, build_plain, build_sanitized, needs, run


def test_address_and_undefined_behaviour(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    programs = build_sanitized("address,undefined", tmp_path_factory)
    scratch = tmp_path / "scratch.safetensors"
    for i, (name, other) in enumerate(zip(NETWORKS, [*NETWORKS][1:] + [*NETWORKS][:1], strict=True)):
        weights = write_weights(name, tmp_path)
        for isa in ISAS:
            # What does not depend on the instruction set is checked on one of them, each time another.
            whole = isa == ISAS[i % len(ISAS)]
            brief = [] if whole else ["brief"]
            run(programs / "engine_test", weights, scratch, *brief, MULTIRES_ISA=isa)
            if whole:
                run(programs / "header_test", weights, write_weights(other, tmp_path), MULTIRES_ISA=isa)
        run(programs / "products_test", weights)
    run(programs / "stored_test")


def test_threads_that_share_a_model(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    needs("setarch")
    program = build_sanitized("thread", tmp_path_factory) / "threads_test"
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
        run(*valgrind, programs / "engine_test", weights, tmp_path / "scratch", "brief", MULTIRES_ISA=isa)
