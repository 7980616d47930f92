"""`make gpu-test` on the stand-ins: it is ready for the day on which there is a GPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import on_gpu
from tests.conftest import SMALL
from tests.runtime.backends.device.fake_driver import ORIN, FakeCuda, install_compiler
from tests.runtime.backends.tensorrt.bundles import export
from tests.runtime.backends.tensorrt.fake_tensorrt import FakeTensorRt, install

pytestmark = pytest.mark.native


@pytest.mark.slow
def test_a_report_of_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeCuda()
    install(monkeypatch, driver, FakeTensorRt(driver, "10.3.0"))
    install_compiler(monkeypatch, tmp_path)
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(on_gpu, "run", lambda *command: ran.append(command))
    monkeypatch.setattr(on_gpu, "PAPER_SIZE", SMALL)
    monkeypatch.setattr(on_gpu, "SEQUENCE", 30)
    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/bin/{name}")
    bundle, report = export(tmp_path, target="tensorrt10"), tmp_path / "report.md"
    arguments = [str(report), str(bundle.path), "--streams", "1,3", "--calls", "10"]
    assert on_gpu.main(arguments) == 0
    text = report.read_text()
    assert text.startswith(f"# {ORIN}, compute capability 8.7\n")
    assert [command[:3] for command in ran[1:]] == [
        ("/bin/compute-sanitizer", "--tool", tool) for tool in on_gpu.SANITIZERS for _ in ("rings", "our own")
    ]
    assert ran[-1][-1].endswith(f"run_steps({str(bundle.path)!r}, 16)")
    before = len(driver.launched)
    on_gpu.run_steps(str(bundle.path), 1)
    assert set(driver.launched[before:]) == {"multires_step"}
    for line in (
        "- [x] taps.fp16.jetpack6 by TensorRT 10.3.0", "- native: fp32, fp16",
        "- [x] kernels as PTX, with their plans", "- cuda: fp32, fp16", "- cuda by plan: fp32, fp16",
        "- [x] cuda by plan fp16, one whole stream, in chunks",
        "- tensorrt: fp32, fp16", "- [x] tensorrt fp16, one whole stream, in chunks",
        "| graph of 20 nodes |", "| graph of 1 node on 64 bytes of mapped memory, spin |",
        "| tensorrt fp32, 3 streams |",
        "| filters as convolutions |", "| filters as sums of shifted sequences |",
    ):  # fmt: skip
        assert line in text, line
    assert "- [ ]" not in text

    def breaks(*_: object) -> None:
        raise RuntimeError("as nobody expects")

    driver.refuse("cuGraphLaunch", 700)
    monkeypatch.setattr(on_gpu, "build_kernels", breaks)
    assert on_gpu.main(arguments) == 1
    text = report.read_text()
    assert "- [ ] kernels as PTX, with their plans: RuntimeError: as nobody expects\n" in text
    assert "- [ ] tensorrt fp32, one whole stream: BackendError: cuGraphLaunch failed" in text


def test_without_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, FakeCuda("cuInit", 999))
    assert on_gpu.main([str(tmp_path / "report.md")]) == 2
    assert "CUDA_ERROR_UNKNOWN (999)" in capsys.readouterr().err and not list(tmp_path.iterdir())
