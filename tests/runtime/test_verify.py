"""Recorded inputs and outputs, and the first steps of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from multires_edge.cli.main import main
from multires_edge.export import export_bundle
from multires_edge.format.golden import Golden
from multires_edge.format.pooling import Window
from multires_edge.runtime.bundle import open_bundle
from multires_edge.runtime.verify import unchecked_files, verify_bundle
from tests.conftest import SMALL, random_net, save_published, within_limit
from tests.runtime.backends.device.fake_driver import FakeCuda, install_compiler


@pytest.mark.parametrize("name", ["exported", "drawing", "token_predictor", "token_classifier"])
@pytest.mark.parametrize("steps", [1, 20])
def test_the_first_steps_are_what_the_graphs_give(
    name: str, steps: int, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(name)
    bundle = open_bundle(path)
    first = bundle.golden().first(steps, bundle.manifest.pooling)
    assert first.inputs.shape[-1] == steps and first.full is not None
    assert within_limit(bundle.full()(first.inputs), first.full)
    assert within_limit(bundle.stream(len(first.inputs)).run(first.inputs), first.stepwise)


@pytest.mark.slow
def test_an_old_onnxruntime_checks_the_form_that_it_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_published(random_net(SMALL), tmp_path)
    export_bundle(tmp_path / "ckpt.pth", tmp_path / "b", target="cpu,portable", precisions=("fp16",))
    bundle = open_bundle(tmp_path / "b")
    assert unchecked_files(bundle) == {}
    everything = {check.name for check in verify_bundle(bundle)}

    monkeypatch.setattr("multires_edge.runtime.backends.onnxruntime.release", lambda: (1, 20))
    newest = {"full.onnx", "step.onnx", "full.fp16.onnx", "step.fp16.onnx"}
    assert set(unchecked_files(bundle)) == newest
    checks = verify_bundle(bundle)
    assert all(check.passed for check in checks)
    left_out = everything - {check.name for check in checks}
    assert len(left_out) == 8 and not any("opset17" in name or "native" in name for name in left_out)


@pytest.mark.native
def test_the_kernel_where_there_is_a_gpu(
    exported: Path, driver: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install_compiler(monkeypatch, tmp_path)
    ours = [check for check in verify_bundle(open_bundle(exported)) if "kernel on the GPU" in check.name]
    assert len(ours) == 3 and all(check.passed for check in ours)
    driver.refuse("cuDevicePrimaryCtxRetain", 46)  # another program has the GPU for itself
    result = CliRunner().invoke(main, ["verify", str(exported)])
    assert result.exit_code == 0 and "native engine, resumed" in result.stdout
    assert "-[ ] kernel on the GPU: not checked (cuDevicePrimaryCtxRetain failed: " in result.stdout


def test_whole_sequences_where_onnxruntime_is_too_old(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(exported)
    golden = bundle.golden()
    monkeypatch.setattr("multires_edge.runtime.backends.onnxruntime.release", lambda: (1, 20))
    assert golden.full is not None and within_limit(bundle.full()(golden.inputs), golden.full)


def test_a_window_that_the_first_steps_leave() -> None:
    golden = Golden(np.zeros((1, 2, 60)), np.zeros((1, 3, 60)), np.zeros((1, 3)))
    assert golden.first(50, Window(40)).full is None
    assert golden.first(40, Window(40)).full is not None
