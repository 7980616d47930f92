"""The C++ streams for GPUs: linked with TensorRT's own library, and run on a GPU that is not there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.runtime.cpp.networks import NETWORKS, write_weights
from tests.runtime.cpp.programs import SOURCE, build_plain, cxx, needed_wheels, run
from tests.runtime.cpp.stubs import write_stubs

FLOATS = [name for name, network in NETWORKS.items() if network.precision != "int8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needed_wheels()
    return build_plain(tmp_path_factory)


@pytest.fixture(scope="module")
def program(folder: Path) -> Path:
    return folder / "tests" / "tensorrt_test"


@pytest.fixture(scope="module")
def gpu(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fake_gpu.cpp, to be preloaded."""
    wheels = needed_wheels()
    made = tmp_path_factory.mktemp("gpu")
    write_stubs(wheels.tensorrt_headers, made)
    own = [f"-I{path}" for path in (made, SOURCE / "include", SOURCE / "cuda")]
    theirs = [f"-isystem{path}" for path in (wheels.tensorrt_headers, wheels.cuda_headers)]
    options = ["-std=c++17", "-O1", "-w", "-shared", "-fPIC"]
    source = Path(__file__).with_name("fake_gpu.cpp")
    output = run(cxx(), *options, *own, *theirs, source, folder / "libmultires.a", "-o", made / "gpu.so")
    assert not output
    return made / "gpu.so"


def outcome(
    program: Path, *arguments: object, gpu: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({} if gpu is None else {"LD_PRELOAD": str(gpu)}) | variables
    command = [str(part) for part in (program, *arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def write_engine(folder: Path, kind: str, weights: Path, batches: str = "1 8") -> Path:
    path = folder / f"{kind}.engine"
    path.write_text(f"{kind} {batches} {weights}")
    return path


@pytest.mark.parametrize("kind", ["step", "taps"])
@pytest.mark.parametrize("name", FLOATS)
def test_streams_are_those_of_the_native_engine(
    name: str, kind: str, program: Path, gpu: Path, tmp_path: Path
) -> None:
    """With memory of its own, and with that of the host."""
    weights = write_weights(name, tmp_path)
    engine = write_engine(tmp_path, kind, weights)
    for variables in ({}, {"INTEGRATED": "1"}):
        result = outcome(program, weights, engine, 0, gpu=gpu, **variables)
        assert (result.returncode, result.stdout, result.stderr) == (0, "0\n", "")


@pytest.mark.parametrize("kind", ["step", "taps"])
def test_steps_that_cannot_be_captured(kind: str, program: Path, gpu: Path, tmp_path: Path) -> None:
    weights = write_weights("fading", tmp_path)
    engine = write_engine(tmp_path, kind, weights)
    result = outcome(program, weights, engine, 0, gpu=gpu, REFUSED="cudaStreamBeginCapture")
    said = "not captured: cudaStreamBeginCapture: of the fake runtime\n0\n"
    assert (result.returncode, result.stdout, result.stderr) == (0, said, "")
    result = outcome(program, weights, engine, 0, gpu=gpu, REFUSED="cudaGraphInstantiate")
    assert result.returncode == 0 and result.stdout.startswith("not captured: cudaGraphInstantiate: ")


@pytest.mark.parametrize(("wait", "flags"), [("spin", 1), ("yield", 2), ("block", 4)])
def test_it_waits_as_the_user_says(wait: str, flags: int, program: Path, gpu: Path, tmp_path: Path) -> None:
    weights = write_weights("fading", tmp_path)
    engine = write_engine(tmp_path, "step", weights)
    result = outcome(program, weights, engine, 0, gpu=gpu, MULTIRES_CUDA_WAIT=wait)
    assert (result.returncode, result.stdout, result.stderr) == (0, "0\n", f"flags {flags}\n")


class TestRefusals:
    def test_a_way_to_wait_that_is_none(self, program: Path, gpu: Path, tmp_path: Path) -> None:
        weights = write_weights("fading", tmp_path)
        result = outcome(program, weights, "", gpu=gpu, MULTIRES_CUDA_WAIT="sleep")
        assert result.returncode == 3
        assert "MULTIRES_CUDA_WAIT is 'sleep', expected spin, yield, block" in result.stderr

    def test_no_device(self, program: Path, tmp_path: Path) -> None:
        if Path("/dev/nvidiactl").exists() or Path("/dev/nvhost-gpu").exists():
            pytest.skip("this machine has a GPU")
        weights = write_weights("fading", tmp_path)
        result = outcome(program, weights, write_engine(tmp_path, "step", weights))
        assert result.returncode == 3
        assert "needs a CUDA device" in result.stderr

    @pytest.mark.parametrize(
        ("content", "reason"),
        [("truncated", "TensorRT refuses it: magic tag"), ("", "cannot be read, or is empty")],
    )
    def test_no_engine(self, content: str, reason: str, program: Path, gpu: Path, tmp_path: Path) -> None:
        engine = tmp_path / "a.engine"
        engine.write_text(content)
        result = outcome(program, write_weights("fading", tmp_path), engine, gpu=gpu)
        assert result.returncode == 3 and reason in result.stderr

    @pytest.mark.parametrize("kind", ["step", "taps"])
    @pytest.mark.parametrize(("mine", "theirs"), [("fading", "uniform"), ("fading", "tokens-windowed")])
    def test_of_another_network(
        self, mine: str, theirs: str, kind: str, program: Path, gpu: Path, tmp_path: Path
    ) -> None:
        engine = write_engine(tmp_path, kind, write_weights(theirs, tmp_path))
        result = outcome(program, write_weights(mine, tmp_path), engine, gpu=gpu)
        assert result.returncode == 3
        assert re.search("another network", result.stderr)

    def test_a_batch_outside_its_profile(self, program: Path, gpu: Path, tmp_path: Path) -> None:
        weights = write_weights("fading", tmp_path)
        result = outcome(program, weights, write_engine(tmp_path, "step", weights, "4 8"), gpu=gpu)
        assert result.returncode == 3
        assert "batch is 3, and" in result.stderr and "built for 4 to 8" in result.stderr


def test_links_what_it_says(program: Path) -> None:
    libraries = run("ldd", program)
    assert "libnvinfer_lean" in libraries and "libcudart" in libraries
    assert "libcuda.so" not in libraries  # the driver is looked for when it is needed
