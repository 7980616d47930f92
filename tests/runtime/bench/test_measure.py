"""The benchmark's JSON object, for every kind of bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from multires_edge.base.errors import BackendError, InputError
from multires_edge.cli.bench_table import print_benchmark
from multires_edge.export import export_bundle
from multires_edge.format.fields import digest_of
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends.tensorrt.sidecar import TensorRtRelease
from multires_edge.runtime.bench.cold import measure_cold
from multires_edge.runtime.bench.measure import benchmark
from multires_edge.runtime.bench.timing import QUICK_BUDGET
from tests.conftest import random_net, save_published, variant
from tests.runtime.backends.device.fake_driver import FakeCuda
from tests.runtime.backends.tensorrt.bundles import put_engine
from tests.runtime.backends.tensorrt.fake_tensorrt import FakeTensorRt, plan_of
from tests.runtime.backends.tensorrt.test_loaded import install_engine

pytestmark = pytest.mark.slow

KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "windowed": ({}, "window:7"),
    "tokens": ({"encoder": "token", "kernel_size": 4}, "cumulative"),
    "autoregressive": ({"task": "autoregressive", "d_output": 10}, "cumulative"),
    "autoregressive tokens": ({"task": "autoregressive", "encoder": "token"}, "cumulative"),
}
TIMING = {"p50", "p99", "max", "calls"}


def check(entry: dict[str, Any], streams: list[int], steps: int) -> None:
    """That an object is what docs/benchmarks.md says, and consistent in itself."""
    assert json.loads(json.dumps(entry)) == entry
    assert set(entry) == {
        "format", "version", "bundle", "model", "pool", "threads", "effort", "results", "rooflines",
        "skipped",
    }  # fmt: skip
    assert (entry["format"], entry["version"]) == ("multires-bench", 1)
    for line in entry["rooflines"].values():
        assert set(line) == {
            "isa", "weight_bytes", "tap_bytes", "push_bytes", "multiply_adds", "int8_multiply_adds",
            "bytes_per_second", "multiply_adds_per_second", "read_seconds", "compute_seconds", "seconds",
            "bound",
        }  # fmt: skip
        assert line["seconds"] == max(line["read_seconds"], line["compute_seconds"]) > 0
    for result in entry["results"]:
        assert set(result) == {"backend", "precision", "step", "streams", "full", "load", "memory"}
        step, full = result["step"], result["full"]
        paced = [step[kind] for kind in ("answer", "cold", "cold_answer", "paced", "paced_answer")]
        assert (
            step["streams"] == 1
            and len(step) == 4 + len(paced)
            and set(step) > {"python", "cpp", "to_roofline"}
        )
        assert (step["cpp"] is not None) == (result["backend"] == "native")
        fastest = step["cpp"] or step["python"]
        bound = entry["rooflines"][result["precision"]]
        assert step["to_roofline"] == fastest["p50"] / bound["seconds"] > 0
        timings = [step["python"], fastest, full, *result["streams"], *paced]
        for timing in timings:
            assert set(timing) >= TIMING
            assert 0 < timing["p50"] <= timing["p99"] <= timing["max"] and timing["calls"] >= 3
        assert [call["streams"] for call in result["streams"]] == streams
        for call in result["streams"]:
            assert call["steps_per_second"] == call["streams"] / call["p50"]
            assert call["gain"] == call["streams"] * step["python"]["p50"] / call["p50"]
        assert full["steps"] == steps and full["steps_per_second"] == steps / full["p50"]
        assert set(result["load"]) == {
            "open_seconds", "import_seconds", "stream_seconds", "first_step_seconds",
        }  # fmt: skip
        assert all(seconds > 0 for seconds in result["load"].values())
        memory = result["memory"]
        assert set(memory) == {"process_bytes", "library_bytes", "stream_bytes", "state_bytes"}
        assert memory["state_bytes"] > 0
        if memory["process_bytes"] is not None:
            assert memory["process_bytes"] > memory["library_bytes"] >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_bundle(kind: str, tmp_path: Path) -> None:
    changes, pool = KINDS[kind]
    path = save_published(random_net(variant(**changes)), tmp_path)
    bundle = open_bundle(export_bundle(path, pool=pool).path)
    entry = benchmark(bundle, steps=20, streams=[3], budget=QUICK_BUDGET)
    check(entry, [1, 3], 20)
    assert [result["backend"] for result in entry["results"]] == ["native", "onnxruntime"]
    assert entry["skipped"] == []


def test_a_process_of_its_own_holds_the_state(tmp_path: Path) -> None:
    """Queues of four megabytes, which any program must grow by."""
    net = random_net(variant(d_model=64, depth=13))
    bundle = open_bundle(export_bundle(save_published(net, tmp_path)).path)
    state = bundle.stream().state_bytes
    for backend in ("native", "onnxruntime"):
        memory = measure_cold(bundle.path, backend, "fp32", 1, 1)["memory"]
        assert memory["stream_bytes"] >= 0.9 * state > 3_000_000


def without_native_weights(bundle: Path) -> Path:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["native"] = {}
    path.write_text(json.dumps(manifest | {"sha256": digest_of(manifest)}))
    return bundle


class TestWhatCannotRun:
    def test_is_listed_with_its_reason(self, bundle: Path) -> None:
        opened = open_bundle(without_native_weights(bundle))
        backends = ["native", "onnxruntime"]
        entry = benchmark(opened, backends=backends, steps=5, streams=[1], budget=QUICK_BUDGET)
        assert [result["backend"] for result in entry["results"]] == ["onnxruntime"]
        skipped = entry["skipped"][0]
        assert skipped["what"] == "native fp32" and "no native weights" in skipped["reason"]

    def test_threads_run_on_every_backend(self, exported: Path) -> None:
        entry = benchmark(open_bundle(exported), threads=2, steps=5, streams=[1], budget=QUICK_BUDGET)
        check(entry, [1], 5)
        assert [result["backend"] for result in entry["results"]] == ["native", "onnxruntime"]

    def test_a_bundle_without_native_weights_has_no_roofline(self, bundle: Path) -> None:
        entry = benchmark(
            open_bundle(without_native_weights(bundle)), steps=5, streams=[1], budget=QUICK_BUDGET
        )
        assert entry["rooflines"] == {}
        assert [result["step"]["to_roofline"] for result in entry["results"]] == [None]
        assert [skipped["what"] for skipped in entry["skipped"]] == ["roofline fp32"]

    def test_streams_whose_state_is_too_large(self, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = open_bundle(exported)
        most = 4 * opened.stream().state_bytes
        monkeypatch.setattr("multires_edge.runtime.bench.measure._MOST_STATE_BYTES", most)
        entry = benchmark(opened, backends=["native"], steps=5, streams=[4, 5], budget=QUICK_BUDGET)
        check(entry, [1, 4], 5)
        assert [skipped["what"] for skipped in entry["skipped"]] == ["5 streams"]

    @pytest.mark.native
    def test_an_engine_for_some_streams_and_no_sequences(
        self, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Nor does the stand-in for TensorRT start in a new process."""
        trt, opened = FakeTensorRt(FakeCuda()), open_bundle(bundle)
        install_engine(monkeypatch, trt, opened, profile={"batch": (2, 2, 4)})
        full = plan_of(bundle / opened.manifest.graph("full", "fp32").file)
        put_engine(opened, "full", "tensorrt11", full, tensorrt=TensorRtRelease("tensorrt", trt.__version__))
        entry = benchmark(opened, backends=["tensorrt"], steps=50, streams=[2, 4, 8], budget=QUICK_BUDGET)
        (result,) = entry["results"]
        assert result["step"]["streams"] == 2 and result["step"]["paced"]["p50"] > 0
        assert [call["streams"] for call in result["streams"]] == [2, 4]
        assert result["streams"][0]["gain"] == 1 and result["full"] is None
        assert result["step"]["to_roofline"] is None
        skipped = {each["what"]: each["reason"] for each in entry["skipped"]}
        assert list(skipped) == [
            f"tensorrt fp32, {what}"
            for what in ("1 streams", "8 streams", "whole sequences", "start in a new process")
        ]
        assert "--streams 8" in skipped["tensorrt fp32, 8 streams"]
        assert "--time 50" in skipped["tensorrt fp32, whole sequences"]
        assert result["load"] is None and result["memory"]["process_bytes"] is None
        print_benchmark(entry)
        said = capsys.readouterr().out
        assert "tensorrt fp32, from Python, 2 streams" in said and "whole sequence of" not in said

    def test_nothing_at_all(self, bundle: Path) -> None:
        opened = open_bundle(without_native_weights(bundle))
        with pytest.raises(BackendError, match=r"nothing to measure: .* no native weights"):
            benchmark(opened, backends=["native"], budget=QUICK_BUDGET)

    def test_a_process_that_fails(self, tmp_path: Path) -> None:
        with pytest.raises(BackendError, match=r"ended with exit code 1: .*no such folder"):
            measure_cold(tmp_path / "none", "native", "fp32", 1, 1)


@pytest.mark.parametrize(
    "numbers",
    [{"threads": 0}, {"steps": -1}, {"steps": 1_000_001}, {"streams": [8, 0]}, {"threads": 1.5}],
)
def test_a_number_out_of_range(exported: Path, numbers: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"expected a whole number from 1 to [0-9,]+$"):
        benchmark(open_bundle(exported), **numbers)


@pytest.mark.parametrize("names", [{"backends": ["abacus"]}, {"precisions": ["fp3"]}])
def test_an_unknown_name(exported: Path, names: dict[str, Any]) -> None:
    with pytest.raises(BackendError, match=r"is '(abacus|fp3)', expected one of (native|fp32)"):
        benchmark(open_bundle(exported), **names)
