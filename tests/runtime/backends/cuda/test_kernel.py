"""The kernel compiled for every GPU by NVRTC: its registers, its memory, and the file that keeps it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from multires_edge.base.errors import BackendError
from multires_edge.export.native_weights import native_weights
from multires_edge.format.pooling import Cumulative
from multires_edge.runtime.backends.cuda import nvrtc
from multires_edge.runtime.backends.cuda.kernel import ENTRY, compile_kernel, sources
from multires_edge.runtime.backends.cuda.nvrtc import Nvrtc, find_nvrtc
from multires_edge.runtime.backends.cuda.plan import SHARED_BYTES, Plan, make_plan
from tests.conftest import random_net, variant
from tests.runtime.backends.cuda.compiled import network_of
from tests.runtime.backends.test_native_queues import network_in

PAPER = {"d_input": 12, "d_output": 5, "d_model": 128, "n_layers": 6, "depth": 10}
ARCHITECTURES = ("75", "86", "87", "89", "90", "110", "120")
REPORT = re.compile(r"(\d+) bytes spill stores.*?Used (\d+) registers.*?(\d+) bytes smem", re.DOTALL)


@pytest.fixture(scope="module")
def compiler() -> Nvrtc:
    try:
        return find_nvrtc(13)
    except BackendError:
        pytest.skip("needs NVRTC, which is in the test extra on Linux and x86-64")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "multires-edge" / "kernels"


def plan_of(precision: str = "fp32", queues: str = "float32", rows: int = 1, **changes: object) -> Plan:
    net = random_net(variant(**changes))
    weights = native_weights(network_in(precision, queues, net), Cumulative(), None, precision)
    return make_plan(network_of(weights), rows)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize(
    ("precision", "queues"), [("fp32", "float32"), ("fp16", "float16"), ("int8", "int8")]
)
def test_the_papers_network_fits_every_gpu(precision: str, queues: str, rows: int, compiler: Nvrtc) -> None:
    """Without a spill, and with registers for a second block on each multiprocessor (65,536 of them)."""
    plan = plan_of(precision, queues, rows, **PAPER)
    assert plan.rows == rows and plan.scratch == 0
    source, headers = sources(plan)
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


def test_it_is_kept_for_the_next_start(compiler: Nvrtc, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = compile_kernel(plan_of(), compiler, "8.7")
    (kept,) = home.iterdir()
    assert kept.read_bytes().endswith(code)
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "compile", None)
        assert compile_kernel(plan_of(), compiler, "8.7") == code
    compile_kernel(plan_of(), compiler, "9.0")
    compile_kernel(plan_of(d_model=9), compiler, "8.7")
    assert len(list(home.iterdir())) == 3


def test_a_kept_file_that_is_damaged(compiler: Nvrtc, home: Path) -> None:
    code = compile_kernel(plan_of(), compiler, "8.7")
    (kept,) = home.iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    assert compile_kernel(plan_of(), compiler, "8.7") == code
    assert kept.read_bytes().endswith(code)


def test_a_home_that_cannot_be_written(
    compiler: Nvrtc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compile_kernel(plan_of(), compiler, "8.7").startswith(b"\x7fELF")


@pytest.mark.usefixtures("home")
class TestArchitectures:
    def test_a_gpu_that_is_newer_than_nvrtc_gets_ptx(self, compiler: Nvrtc) -> None:
        code = compile_kernel(plan_of(), compiler, "99.0")
        newest = max(compiler.architectures())
        assert code.endswith(b"\0") and f".target sm_{newest}".encode() in code
        assert f".entry {ENTRY}(".encode() in code

    def test_a_gpu_that_is_older(self, compiler: Nvrtc) -> None:
        with pytest.raises(BackendError, match=r"NVRTC 1\d\.\d does not know compute capability 3.0"):
            compile_kernel(plan_of(), compiler, "3.0")

    def test_by_the_compiler_of_jetpack_6(self) -> None:
        """It has other headers built in than later ones."""
        try:
            older = find_nvrtc(12)
        except BackendError:
            pytest.skip("needs nvidia-cuda-nvrtc-cu12, which is in the test extra on x86-64")
        assert older.version == (12, 6)
        assert compile_kernel(plan_of("int8", "float16"), older, "8.7").startswith(b"\x7fELF")


class TestFinding:
    def test_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(nvrtc, "_paths", lambda: iter(["no/such/library"]))
        with pytest.raises(BackendError, match=r"NVRTC; it was not found: on a Jetson: sudo apt install"):
            find_nvrtc(13)

    def test_only_one_that_is_newer_than_the_driver(self, compiler: Nvrtc) -> None:
        with pytest.raises(BackendError, match=r"only NVRTC 1\d\.\d, newer than the driver's CUDA 11"):
            find_nvrtc(11)

    def test_in_the_folder_of_cuda(
        self, compiler: Nvrtc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CUDA_HOME", str(tmp_path))
        (tmp_path / "lib64").mkdir()
        (tmp_path / "lib64" / "libnvrtc.so.13").touch()
        assert f"{tmp_path}/lib64/libnvrtc.so.13" in nvrtc._paths()
        assert find_nvrtc(13).version == compiler.version  # it is no library: the next one is taken

    def test_words_of_the_compiler(self, compiler: Nvrtc) -> None:
        with pytest.raises(BackendError, match=r"refuses the kernel: step\.cu.* error"):
            compiler.compile("nonsense", {}, [])
