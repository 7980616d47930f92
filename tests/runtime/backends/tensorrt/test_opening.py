"""``bundle.stream(backend="tensorrt")``: which engine it takes, and what it says when none will do."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from multires_edge.base.errors import BackendError, BundleError, MissingExtraError, MultiresError
from multires_edge.base.files import sha256_of
from multires_edge.format.fields import digest_of
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.backends.tensorrt import opening
from multires_edge.runtime.backends.tensorrt.gpu import Gpu
from multires_edge.runtime.backends.tensorrt.opening import find_engine
from tests.runtime.backends.tensorrt.bundles import export

ORIN = Gpu("Orin", "8.7")


@pytest.fixture(scope="module")
def exported_with_taps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("opening")).path


@pytest.fixture
def bundle(exported_with_taps: Path, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(exported_with_taps, tmp_path / "a.bundle"))


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT 10.16.1 and an Orin, as far as anyone asks before an engine is loaded."""
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.16.1"))
    monkeypatch.setattr(opening, "find_gpu", lambda: ORIN)
    monkeypatch.setattr(opening, "load_driver", lambda: None)


def add_engine(
    bundle: Bundle, kind: str, *, in_place: bool = False, target: str = "jetpack7", **changes: Any
) -> Path:
    """An engine file with a sidecar; TensorRT is never asked to read it."""
    spec = bundle.manifest.graph(kind, "fp32")
    path = bundle.path / "engines" / f"{kind}.fp32.{target}.engine"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"an engine")
    updates = {state.input: state.output for state in spec.states if in_place and state.in_place}
    entry = {
        "format": "multires-engine",
        "version": 1,
        "engine": {"file": path.name, "sha256": sha256_of(path), "bytes": 9},
        "graph": {"kind": kind, "form": "opset24", "file": spec.file, "sha256": spec.sha256},
        "tensorrt": {"package": "tensorrt", "version": "10.16.1"},
        "device": {"name": "Orin"},
        "compute_capabilities": ["8.7"],
        "profile": {"batch": [1, 1, 4]},
        "in_place": updates,
    }
    entry |= changes
    path.with_suffix(".json").write_text(json.dumps(entry | {"sha256": digest_of(entry)}))
    return path


def chosen(bundle: Bundle) -> str:
    kind, engine, api = find_engine(bundle.path, bundle.manifest, "fp32", ORIN)
    assert engine.read() == b"an engine" and api.version == (10, 16, 1)
    return kind


class TestChoice:
    def test_a_step_in_place_is_the_best(self, bundle: Bundle) -> None:
        add_engine(bundle, "taps")
        add_engine(bundle, "step", in_place=True)
        assert chosen(bundle) == "step"

    def test_taps_rather_than_copies_of_queues(self, bundle: Bundle) -> None:
        add_engine(bundle, "step")
        assert chosen(bundle) == "step"
        add_engine(bundle, "taps")
        assert chosen(bundle) == "taps"

    def test_the_first_that_runs_here(self, bundle: Bundle) -> None:
        add_engine(bundle, "step", target="a", compute_capabilities=["11.0"], device={"name": "Thor"})
        path = add_engine(bundle, "step", target="b")
        assert find_engine(bundle.path, bundle.manifest, "fp32", ORIN)[1].path == path

    def test_the_full_graph_is_no_step(self, bundle: Bundle) -> None:
        add_engine(bundle, "full")
        with pytest.raises(BackendError, match="no step engine"):
            bundle.stream(backend="tensorrt")


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "error", "reason"),
        [
            ({"tensorrt": {"package": "tensorrt", "version": "10.3.0"}}, BackendError,
             r"built by tensorrt 10\.3\.0, but tensorrt 10\.16\.1 is installed"),
            ({"device": {"name": "Thor"}}, BackendError, "built on Thor, but this is Orin"),
            ({"device": None, "compute_capabilities": ["8.6", "8.9"]}, BackendError,
             r"8\.6 or 8\.9, but Orin has 8\.7"),
            ({"graph": {"form": "opset24", "file": "step.onnx", "sha256": "0" * 64}}, BundleError,
             "another bundle's"),
        ],
    )  # fmt: skip
    def test_an_engine_that_does_not_fit(
        self, changes: dict[str, Any], error: type[MultiresError], reason: str, bundle: Bundle
    ) -> None:
        add_engine(bundle, "step", **changes)
        with pytest.raises(error, match=reason):
            bundle.stream(backend="tensorrt")

    @pytest.mark.parametrize("content", [b"", b"an engin", b"another!!"])
    def test_a_truncated_or_changed_engine(self, content: bytes, bundle: Bundle) -> None:
        add_engine(bundle, "step").write_bytes(content)
        with pytest.raises(BundleError, match="truncated or changed"):
            bundle.stream(backend="tensorrt")

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "else"}'])
    def test_a_damaged_sidecar(self, content: str, bundle: Bundle) -> None:
        add_engine(bundle, "step").with_suffix(".json").write_text(content)
        with pytest.raises(BundleError, match="build the engine again"):
            bundle.stream(backend="tensorrt")

    def test_no_engine(self, bundle: Bundle) -> None:
        with pytest.raises(BackendError, match="multires-edge build"):
            bundle.stream(backend="tensorrt")
        add_engine(bundle, "step")
        with pytest.raises(BackendError, match="no step engine in fp16"):
            bundle.stream(backend="tensorrt", precision="fp16")

    def test_every_reason_is_given(self, bundle: Bundle) -> None:
        add_engine(bundle, "step", device={"name": "Thor"})
        add_engine(bundle, "taps", device={"name": "Xavier"})
        with pytest.raises(BackendError, match=r"Thor.*; .*Xavier"):
            bundle.stream(backend="tensorrt")

    def test_no_tensorrt(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        add_engine(bundle, "step")
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(BackendError, match=r"^step\.fp32\.jetpack7\.engine needs tensorrt, which"):
            bundle.stream(backend="tensorrt")

    def test_no_device(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(opening, "find_gpu", lambda: None)
        with pytest.raises(BackendError, match=r"found no CUDA driver or GPU: use backend native"):
            bundle.stream(backend="tensorrt")  # with no engine either, which is no use to build

    def test_no_binding(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        monkeypatch.setitem(sys.modules, "cuda.bindings", None)
        with pytest.raises(MissingExtraError, match=r"multires-edge\[tensorrt\]"):
            bundle.stream(backend="tensorrt")

    def test_threads_and_providers(self, bundle: Bundle) -> None:
        for options in ({"threads": 2}, {"provider": "cuda"}):
            with pytest.raises(BackendError, match="CUDA_VISIBLE_DEVICES"):
                bundle.stream(backend="tensorrt", **options)

    def test_whole_sequences(self, bundle: Bundle) -> None:
        with pytest.raises(BackendError, match="'tensorrt' runs only streams"):
            bundle.full(backend="tensorrt")
