"""The C++ streams for GPUs: linked with TensorRT's own library, and run on a GPU that is not there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.runtime.cpp.networks import NETWORKS, write_weights
from tests.runtime.cpp.programs import SOURCE, build_plain, cxx, needed_wheels, run
from tests.runtime.cpp.rtx_headers import write_rtx_headers
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
    return build_gpu(folder, needed_wheels().tensorrt_headers, tmp_path_factory.mktemp("gpu"))


def build_gpu(folder: Path, tensorrt_headers: Path, made: Path) -> Path:
    """fake_gpu.cpp for headers of TensorRT or TensorRT-RTX."""
    write_stubs(tensorrt_headers, made)
    own = [f"-I{path}" for path in (made, SOURCE / "include", SOURCE / "cuda")]
    theirs = [f"-isystem{path}" for path in (tensorrt_headers, needed_wheels().cuda_headers)]
    options = ["-std=c++17", "-O1", "-w", "-shared", "-fPIC"]
    source = Path(__file__).with_name("fake_gpu.cpp")
    output = run(cxx(), *options, *own, *theirs, source, folder / "libmultires.a", "-o", made / "gpu.so")
    assert not output
    return made / "gpu.so"


@pytest.fixture(scope="module")
def rtx(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The program with TensorRT-RTX's own library, and what is preloaded in the place of that."""
    wheels, made = needed_wheels(), tmp_path_factory.mktemp("rtx")
    headers = write_rtx_headers(wheels.tensorrt_headers, made / "headers")
    own = [f"-I{path}" for path in (SOURCE / "include", SOURCE / "src", folder / "tensorrt")]
    theirs = [f"-isystem{path}" for path in (headers, wheels.cuda_headers)]
    sources = [*(SOURCE / "tensorrt").glob("*.cpp"), Path(__file__).parent / "sources" / "tensorrt_test.cpp"]
    libraries = [folder / "libmultires.a", wheels.tensorrt_rtx, wheels.cudart, "-ldl", "-pthread"]
    options = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror"]
    places = [f"-Wl,-rpath,{path.parent}" for path in (wheels.tensorrt_rtx, wheels.cudart)]
    program = made / "rtx_test"
    run(cxx(), *options, *own, *theirs, *sources, *map(str, libraries), *places, "-o", program)
    return program, build_gpu(folder, headers, made)


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


@pytest.mark.parametrize("name", ["fading", "float16", "windows"])
def test_engines_of_rtx_update_queues_in_place_and_compile_once(
    name: str, rtx: tuple[Path, Path], tmp_path: Path
) -> None:
    program, gpu = rtx
    weights = write_weights(name, tmp_path)
    engine = write_engine(tmp_path, "step", weights)
    kernels = tmp_path / "step.kernels"
    for before, compiled in ((None, True), (b"kernels", False), (b"of another driver", True)):
        assert before is None or kernels.write_bytes(before)
        result = outcome(program, weights, engine, 0, gpu=gpu)
        said = (result.returncode, result.stdout, result.stderr)
        assert said == (0, "in place\n0\n", "compiled\n" * compiled)
        assert kernels.read_bytes() == b"kernels"
    kernels.unlink()
    (tmp_path / "step.kernels" / "full").mkdir(parents=True)  # it cannot be replaced
    assert outcome(program, weights, engine, 0, gpu=gpu).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {weights.name, "step.engine", "step.kernels"}


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
        [
            ("truncated", "TensorRT refuses it: magic tag"),
            ("", "be read, or is empty"),
            (None, "be read, or"),
        ],
    )
    def test_no_engine(
        self, content: str | None, reason: str, program: Path, gpu: Path, tmp_path: Path
    ) -> None:
        engine = tmp_path / "a.engine"
        engine.mkdir() if content is None else engine.write_text(content)
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
