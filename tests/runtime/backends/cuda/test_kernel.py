"""The kernel compiled for every GPU by NVRTC: its registers, its memory, and the file that keeps it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from multires_edge.base.errors import BackendError
from multires_edge.export.native_weights import native_weights
from multires_edge.format.pooling import Cumulative, Pooling, parse_pooling
from multires_edge.runtime.backends import _native
from multires_edge.runtime.backends.cuda.backend import find_nvrtc, nvrtc_of_packages
from tests.conftest import random_net, variant
from tests.runtime.backends.cuda.compiled import SOURCES, nvrtc_of, plan_of
from tests.runtime.backends.test_native_queues import network_in

PAPER = {"d_input": 12, "d_output": 5, "d_model": 128, "n_layers": 6, "depth": 10}
ARCHITECTURES = (75, 86, 87, 89, 90, 110, 120)
SHARED_BYTES = 48 << 10
ENTRY = "multires_step"
REPORT = re.compile(r"(\d+) bytes spill stores.*?Used (\d+) registers.*?(\d+) bytes smem", re.DOTALL)


@pytest.fixture(scope="module")
def compiler() -> _native.Nvrtc:
    return nvrtc_of(13)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "multires-edge" / "kernels"


def plan_in(
    precision: str = "fp32",
    queues: str = "float32",
    rows: int = 1,
    streams: Pooling | None = None,
    **changes: object,
) -> _native.CudaPlan:
    net = random_net(variant(**changes))
    folded = network_in(precision, queues, net)
    return plan_of(native_weights(folded, streams or Cumulative(), None, precision), rows)


def release_of(compiler: _native.Nvrtc) -> bytes:
    """Such as 13.0, as a bundle's kernel names it."""
    return plan_in().compile_ptx(compiler)[1].split(maxsplit=5)[4].rstrip(b",")


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize(
    ("precision", "queues", "pooling"),
    [
        ("fp32", "float32", "cumulative"),
        ("fp16", "float16", "cumulative"),
        ("int8", "int8", "cumulative"),
        ("fp32", "float32", "max:500+window:500"),
    ],
)
def test_the_papers_network_fits_every_gpu(
    precision: str, queues: str, pooling: str, rows: int, compiler: _native.Nvrtc
) -> None:
    """Without a spill, and with registers for a second block on each multiprocessor (65,536 of them)."""
    parsed = parse_pooling(pooling)
    plan = plan_in(precision, queues, rows, parsed, **PAPER, pooling=parsed.kind)
    assert plan.rows == rows and plan.scratch == 0
    headers = plan.sources
    source = headers.pop("step.cu")
    for architecture in ARCHITECTURES:
        options = ["--std=c++17", f"--gpu-architecture=sm_{architecture}", "--ptxas-options=-v"]
        code, said = compiler.compile(source, headers, options)
        assert code.startswith(b"\x7fELF") and ENTRY.encode() in code
        report = REPORT.search(said)
        assert report is not None, said
        spilled, registers, shared = map(int, report.groups())
        assert spilled == 0, architecture
        assert registers * plan.threads <= 65536 // (1 if rows > 1 else 2), (architecture, registers)
        assert shared <= SHARED_BYTES


def test_the_library_has_the_sources() -> None:
    sources = plan_in().sources
    assert set(sources) == {path.name for path in SOURCES.iterdir()} - {"gpu.h"} | {"platform.h", "network.h"}
    for path in SOURCES.iterdir():
        name = "platform.h" if path.name == "gpu.h" else path.name
        assert sources[name] == path.read_text(), name


def test_it_is_kept_for_the_next_start(compiler: _native.Nvrtc, home: Path) -> None:
    code = plan_in().compile(compiler, 87)
    (kept,) = home.iterdir()
    assert kept.read_bytes().endswith(code)
    before = kept.stat()
    assert plan_in().compile(compiler, 87) == code
    assert kept.stat().st_ino == before.st_ino  # a second compilation would write another file
    plan_in().compile(compiler, 90)
    plan_in(d_model=9).compile(compiler, 87)
    assert len(list(home.iterdir())) == 3


def test_a_kept_file_that_is_damaged(compiler: _native.Nvrtc, home: Path) -> None:
    code = plan_in().compile(compiler, 87)
    (kept,) = home.iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    assert plan_in().compile(compiler, 87) == code
    assert kept.read_bytes().endswith(code)


def test_a_home_that_cannot_be_written(
    compiler: _native.Nvrtc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert plan_in().compile(compiler, 87).startswith(b"\x7fELF")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    assert plan_in().compile(compiler, 87).startswith(b"\x7fELF")


@pytest.mark.usefixtures("home")
class TestArchitectures:
    def test_a_gpu_that_is_newer_than_nvrtc_gets_ptx(self, compiler: _native.Nvrtc) -> None:
        code = plan_in().compile(compiler, 990)
        newest = re.search(rb"\.target sm_(\d+)", code)
        assert code.endswith(b"\0") and newest is not None and int(newest[1]) > 120
        assert f".entry {ENTRY}(".encode() in code

    def test_a_gpu_that_is_older(self, compiler: _native.Nvrtc) -> None:
        with pytest.raises(RuntimeError, match=r"NVRTC 1\d\.\d does not know compute capability 3\.0"):
            plan_in().compile(compiler, 30)

    def test_by_the_compiler_of_jetpack_6(self) -> None:
        """It has other headers built in than later ones."""
        older = nvrtc_of(12)
        assert release_of(older) == b"12.6"
        assert plan_in("int8", "float16").compile(older, 87).startswith(b"\x7fELF")


class TestFinding:
    def test_none(self) -> None:
        with pytest.raises(RuntimeError, match=r"compiled by NVRTC; .*: on a Jetson: sudo apt install"):
            _native.Nvrtc(0, [])

    def test_only_one_that_is_newer_than_the_driver(self, compiler: _native.Nvrtc) -> None:
        with pytest.raises(BackendError, match=r"only NVRTC 1\d\.\d, newer than the driver's CUDA 11"):
            find_nvrtc(11)

    def test_in_the_folder_of_cuda(
        self, compiler: _native.Nvrtc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CUDA_HOME", str(tmp_path))
        (tmp_path / "lib64").mkdir()
        (tmp_path / "lib64" / "libnvrtc.so.13").touch()
        assert release_of(find_nvrtc(13)) == release_of(compiler)  # it is no library: the next one is taken
        (there,) = (path for path in nvrtc_of_packages() if path.endswith(".so.13"))
        for part in Path(there).parent.glob("libnvrtc*"):
            (tmp_path / "lib64" / part.name).unlink(missing_ok=True)
            (tmp_path / "lib64" / part.name).symlink_to(part)
        assert release_of(_native.Nvrtc(13, [])) == release_of(compiler)

    def test_words_of_the_compiler(self, compiler: _native.Nvrtc) -> None:
        with pytest.raises(RuntimeError, match=r"refuses the kernel: step\.cu.* error"):
            compiler.compile("nonsense", {}, [])
