"""What the backend asks of TensorRT when it loads an engine, and what it passes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from multires_edge.runtime import Bundle
from multires_edge.runtime.backends.tensorrt.engine_file import engine_path
from multires_edge.runtime.backends.tensorrt.sidecar import SIDECAR, TensorRtRelease, sidecar_path
from tests.runtime.backends.device.fake_driver import FakeCuda
from tests.runtime.backends.tensorrt.bundles import export, sidecar_of
from tests.runtime.backends.tensorrt.fake_tensorrt import FakeTensorRt, install, plan_of

pytestmark = pytest.mark.native


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(tmp_path_factory.mktemp("loaded"))


def install_engine(monkeypatch: pytest.MonkeyPatch, trt: FakeTensorRt, bundle: Bundle) -> Path:
    """A step engine of a package's release in the bundle, and the package."""
    install(monkeypatch, trt.driver, trt)
    spec = bundle.manifest.graph("step", "fp32")
    path = engine_path(bundle.path, "step", "fp32", "tensorrt11")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(plan_of(bundle.path / spec.file))
    sidecar = sidecar_of(path.name, path.read_bytes(), spec)
    release = TensorRtRelease(trt.__name__, trt.__version__)
    sidecar_path(path).write_bytes(SIDECAR.to_bytes(replace(sidecar, tensorrt=release)))
    return path


def test_the_warnings_of_an_engine_that_loads(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Using an engine plan file across different models of devices is not recommended"
    install_engine(monkeypatch, FakeTensorRt(FakeCuda(), warning=text), bundle)
    with pytest.warns(UserWarning, match=rf"step\.fp32\.tensorrt11\.engine: {text}: the engine runs only on"):
        bundle.stream(2, backend="tensorrt")


def test_rtx_compiles_kernels_once(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = FakeTensorRt(FakeCuda(), "1.7.1", rtx=True)
    kernels = install_engine(monkeypatch, trt, bundle).with_suffix(".kernels")
    sample = np.zeros((2, 2), np.float32)
    first = bundle.stream(2, backend="tensorrt").step(sample)
    assert trt.compiled == 1 and kernels.read_bytes() == b"kernels"
    assert np.array_equal(bundle.stream(2, backend="tensorrt").step(sample), first) and trt.compiled == 1
    kernels.write_bytes(b"of another driver")
    bundle.stream(2, backend="tensorrt")
    assert trt.compiled == 2 and kernels.read_bytes() == b"kernels"


def test_a_bundle_that_cannot_be_written_to(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = FakeTensorRt(FakeCuda(), "1.7.1", rtx=True)
    kernels = install_engine(monkeypatch, trt, bundle).with_suffix(".kernels")
    kernels.unlink(missing_ok=True)
    kernels.mkdir()  # as root may write everywhere
    bundle.stream(2, backend="tensorrt")
    assert trt.compiled == 1
    kernels.rmdir()


def test_nothing_of_rtx_is_asked_of_tensorrt(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    path = install_engine(monkeypatch, FakeTensorRt(FakeCuda()), bundle)
    bundle.stream(2, backend="tensorrt")
    assert not path.with_suffix(".kernels").exists()
