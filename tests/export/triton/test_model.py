"""The program in Triton's Python backend, called as Triton calls it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

from multires_edge.base.errors import BundleError, ConfigError
from multires_edge.export import export_bundle
from multires_edge.export.triton import BACKENDS
from multires_edge.export.triton.repository import Serving, write_model
from multires_edge.runtime import Bundle, open_bundle
from tests.conftest import random_inputs, random_net, save_published, variant


@dataclass
class Tensor:
    name: str
    array: np.ndarray

    def as_numpy(self) -> np.ndarray:
        return self.array


@dataclass
class Response:
    """What Triton gets; its memory is read as it lies, so it has to be contiguous."""

    output_tensors: list[Tensor] = field(default_factory=list)
    error: Any = None

    def __post_init__(self) -> None:
        assert all(tensor.array.flags.c_contiguous for tensor in self.output_tensors)

    @property
    def y(self) -> np.ndarray:
        assert self.error is None, self.error
        return self.output_tensors[0].array


def server() -> Any:
    """A stand-in for the module that Triton provides."""
    found: Any = ModuleType("triton_python_backend_utils")
    found.Tensor, found.InferenceResponse, found.TritonError = Tensor, Response, str
    found.get_input_tensor_by_name = lambda request, name: Tensor(name, request[name])
    return found


def parameters_of(config: str) -> dict[str, Any]:
    """The parts of a config.pbtxt that the program reads, as Triton passes them on."""
    pairs = re.findall(r'parameters \{ key: "(\w+)" value: \{ string_value: "([^"]*)" \} \}', config)
    (idle,) = re.findall(r"max_sequence_idle_microseconds: (\d+)", config)
    names = re.findall(r'^(?:in|out)put \[ \{ name: "(\w+)"', config, re.MULTILINE)
    return {
        "parameters": {key: {"string_value": value} for key, value in pairs},
        "sequence_batching": {"max_sequence_idle_microseconds": idle},
        "input": [{"name": names[0]}],
        "output": [{"name": names[1]}],
    }


def loaded(model: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program of a folder, initialized."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", server())
    spec = importlib.util.spec_from_file_location("served", model / "1" / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its classes look their own module up.
    monkeypatch.setitem(sys.modules, "served", module)
    spec.loader.exec_module(module)
    program = module.TritonPythonModel()
    config = parameters_of((model / "config.pbtxt").read_text())
    program.initialize({"model_config": json.dumps(config)})
    return program


@pytest.fixture(scope="module", params=["linear", "token"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("served")
    net = random_net(variant(encoder=request.param))
    return open_bundle(export_bundle(save_published(net, folder), folder / "small.bundle").path)


def ask(bundle: Bundle, sequence: int, seed: int, steps: int, **flags: bool) -> dict[str, np.ndarray]:
    """A request: a chunk of a sequence, with its START and END."""
    spec = bundle.manifest.graph("step", "fp32").inputs[0]
    controls = {name: np.array([[flags.get(name, False)]], np.int32) for name in ("START", "END")}
    samples = random_inputs(bundle.manifest.model, 1, steps, seed)
    return {spec.name: samples, "CORRID": np.array([[sequence]], np.uint64), **controls}


@pytest.fixture
def program(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return loaded(write_model(bundle, tmp_path, "small", Serving(idle=5.0), force=False), monkeypatch)


def test_sequences_are_streams(bundle: Bundle, program: Any) -> None:
    """Whatever the others do, and from its start on, a sequence has the bits of a stream of its own."""
    spec = bundle.manifest.graph("step", "fp32").inputs[0]
    streams: dict[int, Any] = {}
    random = np.random.default_rng(0)
    for turn in range(30):
        some = random.choice(200, size=random.integers(1, 100), replace=False)
        requests = []
        for sequence in map(int, some):
            start = sequence not in streams or bool(random.integers(0, 8) == 0)
            steps = int(random.integers(1, 6))
            requests.append(ask(bundle, sequence, turn * 1000 + sequence, steps, START=start))
            if start:
                streams[sequence] = bundle.stream(backend="native")
        for sequence, request, response in zip(some, requests, program.execute(requests), strict=True):
            np.testing.assert_array_equal(response.y, streams[int(sequence)].run(request[spec.name]))


def test_one_error_is_one_answer(bundle: Bundle, program: Any) -> None:
    spec = bundle.manifest.graph("step", "fp32").inputs[0]
    good, unknown = ask(bundle, 1, 0, 3, START=True), ask(bundle, 2, 0, 3)
    bad = ask(bundle, 3, 0, 3, START=True)
    bad[spec.name] = bad[spec.name][:, :0] if bad[spec.name].ndim == 2 else bad[spec.name] * np.nan
    if bad[spec.name].size == 0:
        bad[spec.name] = np.full((1, 3), -1)
    first, second, third = program.execute([good, unknown, bad])
    assert first.y.shape[-1] == 3
    assert "sequence 2 has no state here" in second.error
    assert third.error is not None
    assert program.execute([ask(bundle, 1, 1, 2)])[0].y.shape[-1] == 2


def test_sequences_end(bundle: Bundle, program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their END, or after the time in which Triton forgets them."""
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    program.execute([ask(bundle, 1, 0, 1, START=True), ask(bundle, 2, 0, 1, START=True, END=True)])
    assert program.execute([ask(bundle, 2, 0, 1)])[0].error is not None
    now += 4.9
    assert program.execute([ask(bundle, 1, 0, 1)])[0].error is None
    now += 5.1
    assert "idle too long" in program.execute([ask(bundle, 1, 0, 1)])[0].error


def test_a_step_graph_has_an_axis_beside_the_batch(bundle: Bundle, tmp_path: Path) -> None:
    """It computes what the bundle's graph computes, and the names in its configuration are its own."""
    import onnxruntime as ort

    model = write_model(bundle, tmp_path, "small", Serving(backend="onnxruntime"), force=False)
    graph = onnx.load(model / "1" / "model.onnx").graph
    shapes = {
        value.name: [dim.dim_value or 2 for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert all(len(shape) > 1 for shape in shapes.values())
    config = (model / "config.pbtxt").read_text()
    quoted = set(re.findall(r'(?<!name: )name: "([^"]+)"', config)) | set(
        re.findall(r'_name: "([^"]+)"', config)
    )
    assert set(shapes) <= quoted
    session = ort.InferenceSession(model / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    spec = bundle.manifest.graph("step", "fp32")
    types = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
    state = {
        each.name: np.zeros(shapes[each.name], types[each.type])
        for each in session.get_inputs()
        if each.name != spec.inputs[0].name
    }
    x = random_inputs(bundle.manifest.model, 2, 40)
    stream = bundle.stream(2, backend="onnxruntime", provider="cpu")
    for t in range(40):
        sample = np.ascontiguousarray(x[..., t])
        given = {spec.inputs[0].name: sample.reshape(shapes[spec.inputs[0].name]), **state}
        found = dict(zip(output_names(session), session.run(None, given), strict=True))
        state = {name: found[f"next_{name}"] for name in state}
        np.testing.assert_array_equal(found[spec.outputs[0].name], stream.step(sample))


def output_names(session: Any) -> list[str]:
    return [each.name for each in session.get_outputs()]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_configuration_is_whole(bundle: Bundle, tmp_path: Path, backend: str) -> None:
    model = write_model(bundle, tmp_path, "small", Serving(backend=backend, streams=64), force=False)
    config = (model / "config.pbtxt").read_text()
    for opening, closing in ("{}", "[]"):
        assert config.count(opening) == config.count(closing)
    assert "max_batch_size: 64\n" in config and "max_candidate_sequences: 64 }" in config
    states = bundle.manifest.graph("step", "fp32").states
    zeros = config.count("zero_data: true")
    assert zeros == (0 if backend == "native" else len(states))
    in_place = config.count("use_same_buffer_for_input_output: true")
    assert in_place == (sum(state.in_place for state in states) if backend == "tensorrt" else 0)


@pytest.mark.parametrize(
    ("name", "given", "kind", "words"),
    [
        ("../up", {}, ConfigError, "is no name of a model"),
        ("small", {"precision": "int8"}, BundleError, "no native weights in 'int8'"),
        ("small", {"backend": "onnxruntime", "precision": "fp16"}, BundleError, "no step graph in 'fp16'"),
        ("small", {"wheel": "other.whl"}, ConfigError, "is not a wheel"),
        ("small", {"wheel": "hostile.whl"}, ConfigError, "leads out of it"),
        ("small", {"wheel": "pipe"}, ConfigError, "not a regular file"),
        ("small", {"backend": "tensorrt", "wheel": "other.whl"}, ConfigError, "needs no Python"),
    ],
)
def test_what_is_refused_changes_nothing(
    bundle: Bundle, tmp_path: Path, name: str, given: dict[str, Any], kind: type[Exception], words: str
) -> None:
    (tmp_path / "other.whl").write_bytes(b"PK")
    os.mkfifo(tmp_path / "pipe")
    with zipfile.ZipFile(tmp_path / "hostile.whl", "w") as wheel:
        wheel.writestr("multires_edge/../../../escaped", "")
    if "wheel" in given:
        given = {**given, "wheel": tmp_path / given["wheel"]}
    with pytest.raises(kind, match=words):
        write_model(bundle, tmp_path / "repository", name, Serving(**given), force=False)
    assert not (tmp_path / "repository" / "small").exists() and not list(tmp_path.rglob("escaped"))
