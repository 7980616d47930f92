"""``bundle.stream(backend="tensorrt")``: which engine it takes, and what it says when none will do."""

from __future__ import annotations

import sys

import pytest

from multires_edge.base.errors import BackendError, InputError
from multires_edge.runtime import Bundle
from multires_edge.runtime.backends.device.gpu import Gpu
from multires_edge.runtime.backends.tensorrt.opening import STREAM_KINDS, find_engine
from tests.runtime.backends.device.fake_driver import FakeCuda
from tests.runtime.backends.tensorrt.bundles import put_engine
from tests.runtime.backends.tensorrt.fake_tensorrt import FakeTensorRt, install

THOR, XAVIER = Gpu("Thor", "8.7", 20, 122), Gpu("Xavier", "8.7", 8, 31)

pytestmark = pytest.mark.native


@pytest.fixture(autouse=True)
def installed(driver: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT 10.16.1 and an Orin, as far as anyone asks before an engine is loaded."""
    install(monkeypatch, driver, FakeTensorRt(driver))


def chosen(copied: Bundle) -> str:
    engine = find_engine(copied.path, copied.manifest, "fp32", STREAM_KINDS)
    assert engine.api.version == (10, 16, 1) and engine.updates_in_place == bool(engine.sidecar.in_place)
    return engine.kind


class TestChoice:
    def test_a_step_in_place_is_the_best(self, copied: Bundle) -> None:
        put_engine(copied, "taps")
        put_engine(copied, "step", in_place=True)
        assert chosen(copied) == "step"

    def test_taps_rather_than_copies_of_queues(self, copied: Bundle) -> None:
        put_engine(copied, "step")
        assert chosen(copied) == "step"
        put_engine(copied, "taps")
        assert chosen(copied) == "taps"

    def test_the_first_that_runs_here(self, copied: Bundle) -> None:
        put_engine(copied, "step", target="a", compute_capabilities=["11.0"], device=THOR)
        path = put_engine(copied, "step", target="b")
        assert find_engine(copied.path, copied.manifest, "fp32", STREAM_KINDS).path == path

    def test_the_best_for_so_many_streams(self, copied: Bundle) -> None:
        put_engine(copied, "taps", profile={"batch": (1, 1, 64)})
        put_engine(copied, "step", in_place=True)
        engine = find_engine(copied.path, copied.manifest, "fp32", STREAM_KINDS, 64)
        assert engine.kind == "taps"
        with pytest.raises(InputError, match=r"built for 1 to 4 streams, not 65: .* --streams 65"):
            copied.stream(65, backend="tensorrt")

    def test_the_full_graph_is_no_step(self, copied: Bundle) -> None:
        put_engine(copied, "full")
        with pytest.raises(BackendError, match="no step engine"):
            copied.stream(backend="tensorrt")


class TestRefusals:
    def test_no_engine(self, copied: Bundle) -> None:
        with pytest.raises(BackendError, match="multires-edge build"):
            copied.stream(backend="tensorrt")
        put_engine(copied, "step")
        with pytest.raises(BackendError, match="no step engine in fp16"):
            copied.stream(backend="tensorrt", precision="fp16")

    def test_every_reason_is_given(self, copied: Bundle) -> None:
        put_engine(copied, "step", device=THOR)
        put_engine(copied, "taps", device=XAVIER)
        with pytest.raises(BackendError, match=r"Thor.*; .*Xavier"):
            copied.stream(backend="tensorrt")

    def test_no_tensorrt(self, copied: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        put_engine(copied, "step")
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(BackendError, match=r"^step\.fp32\.jetpack7\.engine needs tensorrt, which"):
            copied.stream(backend="tensorrt")

    def test_no_device(self, copied: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, None)
        with pytest.raises(BackendError, match=r"no CUDA driver was found"):
            copied.stream(backend="tensorrt")  # with no engine either, which is no use to build

    def test_threads_and_providers(self, copied: Bundle) -> None:
        for options in ({"threads": 2}, {"provider": "cuda"}):
            with pytest.raises(BackendError, match="CUDA_VISIBLE_DEVICES"):
                copied.stream(backend="tensorrt", **options)

    def test_whole_sequences(self, copied: Bundle) -> None:
        put_engine(copied, "step")
        with pytest.raises(BackendError, match="no full engine in fp32"):
            copied.full(backend="tensorrt")
