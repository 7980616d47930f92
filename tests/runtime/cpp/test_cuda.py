"""The C++ streams of the cuda backend: from the weights file to the launch, without a GPU."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.runtime.backends.device.fake_driver import build_driver
from tests.runtime.cpp.networks import NETWORKS, write_weights
from tests.runtime.cpp.programs import build_plain, build_sanitized, needed_wheels, needs, run


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_plain(tmp_path_factory) / "tests" / "cuda_test"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with a driver and a compiler that need no GPU."""
    home = tmp_path_factory.mktemp("machine")
    return {"LD_LIBRARY_PATH": str(build_driver()), "XDG_CACHE_HOME": str(home)}


@pytest.mark.parametrize("name", NETWORKS)
def test_streams_are_those_of_the_native_engine(
    name: str, program: Path, machine: dict[str, str], tmp_path: Path
) -> None:
    weights, network = write_weights(name, tmp_path), NETWORKS[name]
    quantized = "int8" in (network.precision, network.queues)
    # A quantized value on the border of two levels may fall either way.
    limit = 0.1 if quantized else 10 * network.limit
    assert float(run(program, weights, str(limit), **machine)) >= 0


@pytest.mark.parametrize("name", ["fading", "tokens-windowed", "windows", "plain-int8", "float16", "softmax"])
def test_under_sanitizers(
    name: str, machine: dict[str, str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Addresses too, of the kernel itself. Its threads are those of the system: fibers move stacks."""
    program = build_sanitized("address,undefined", tmp_path_factory) / "cuda_test"
    flags = "-DMULTIRES_THREADS -fsanitize=address,undefined -fno-sanitize-recover=all"
    own = machine | {"HOST_FLAGS": flags, "XDG_CACHE_HOME": str(tmp_path)}
    run(program, write_weights(name, tmp_path), "0.1", "2", **own)


def test_two_threads(
    machine: dict[str, str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Which share a model, by the thread sanitizer."""
    needs("setarch")
    program = build_sanitized("thread", tmp_path_factory) / "cuda_test"
    run("setarch", "-R", program, write_weights("fading", tmp_path), **machine)


class TestRefusals:
    def refusal(self, program: Path, tmp_path: Path, **environment: str) -> str:
        command = [str(program), str(write_weights("fading", tmp_path))]
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | environment
        )
        assert result.returncode == 3
        return result.stderr

    def test_no_driver(self, program: Path, tmp_path: Path) -> None:
        if Path("/dev/nvidiactl").exists() or Path("/dev/nvhost-gpu").exists():
            pytest.skip("this machine has a GPU")
        assert "no CUDA driver was found" in self.refusal(program, tmp_path)

    @pytest.mark.parametrize("function", ["cuInit", "cuModuleLoadData"])
    def test_a_driver_that_fails(
        self, function: str, program: Path, machine: dict[str, str], tmp_path: Path
    ) -> None:
        said = self.refusal(program, tmp_path, **machine, CUDA_FAILS=f"{function}:222")
        assert f"{function} failed: CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222), of the fake" in said

    def test_a_way_to_wait_that_is_none(self, program: Path, machine: dict[str, str], tmp_path: Path) -> None:
        said = self.refusal(program, tmp_path, **machine, MULTIRES_CUDA_WAIT="sleep")
        assert "MULTIRES_CUDA_WAIT is 'sleep', expected spin, yield, block" in said

    def test_a_kernel_that_does_not_compile(
        self, program: Path, machine: dict[str, str], tmp_path: Path
    ) -> None:
        own = machine | {"HOST_FLAGS": "-DkModel=x", "XDG_CACHE_HOME": str(tmp_path)}
        assert "NVRTC 12.0 refuses the kernel: " in self.refusal(program, tmp_path, **own)


def test_links_nothing_of_cuda(program: Path) -> None:
    assert "cuda" not in run("ldd", program).replace(str(program), "")


def test_the_functions_of_the_driver_are_those_of_its_header(program: Path) -> None:
    needed_wheels()
    assert program.with_name("cuda_header_test").exists()  # it compiles
