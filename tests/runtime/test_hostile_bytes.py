"""Graphs and weights with hostile bytes, signed anew: each is refused in one line, or runs.

``MULTIRES_HOSTILE=500 pytest tests/runtime/test_hostile_bytes.py`` tries 500 of each kind.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from multires_edge.export import ExportOptions, Int8Options, export_bundle
from multires_edge.runtime import Bundle, StreamState, open_bundle
from tests.conftest import SMALL, random_inputs, random_net, save_published
from tests.forged import replace_file
from tests.hostile import COUNT
from tests.hostile_files import Trial, hostile_onnx, hostile_safetensors

X = random_inputs(SMALL, 2, 20)


@pytest.fixture(scope="module")
def two_precisions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two_precisions")
    np.savez(folder / "data.npz", x=random_inputs(SMALL, 20, 100), labels=np.arange(20) % SMALL.d_output)
    options = ExportOptions(
        precisions=("fp32", "int8"), pool="window:9", int8=Int8Options(data=folder / "data.npz")
    )
    return export_bundle(save_published(random_net(SMALL), folder / "run"), folder / "a.bundle", options).path


def use(path: Path, name: str, run: Callable[[Bundle], None]) -> None:
    """Run a copy of the bundle next to a file, with the file in place of one of its own."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(shutil.copytree(path.parent / "bundle", Path(folder) / "a.bundle"))
        replace_file(bundle, name, path.read_bytes())
        run(open_bundle(bundle))


def run_streams(bundle: Bundle, backend: str, precision: str = "fp32") -> None:
    """What a stream does in its life; its outputs are numbers, or it says that they are not."""
    stream = bundle.stream(2, backend=backend, precision=precision)
    assert np.isfinite(stream.run(X)).all()
    saved = StreamState.from_bytes(stream.save_state().to_bytes())
    assert np.isfinite(stream.step(np.ascontiguousarray(X[..., 0]))).all()
    stream.reset(rows=[1])
    stream.load_state(saved)
    assert np.isfinite(stream.run(X)).all()


def step_graph(path: Path) -> None:
    use(path, "step.onnx", lambda bundle: run_streams(bundle, "onnxruntime"))


def int8_step_graph(path: Path) -> None:
    use(path, "step.int8.onnx", lambda bundle: run_streams(bundle, "onnxruntime", "int8"))


def full_graph(path: Path) -> None:
    def run(bundle: Bundle) -> None:
        assert np.isfinite(bundle.full(provider="cpu")(X)).all()

    use(path, "full.onnx", run)


def weights(path: Path) -> None:
    def run(bundle: Bundle) -> None:
        run_streams(bundle, "native")
        assert np.isfinite(bundle.full(backend="native")(X)).all()

    use(path, "native/weights.safetensors", run)


def int8_weights(path: Path) -> None:
    use(path, "native/weights.int8.safetensors", lambda bundle: run_streams(bundle, "native", "int8"))


@pytest.mark.parametrize(
    ("function", "name"),
    [(step_graph, "step.onnx"), (int8_step_graph, "step.int8.onnx"), (full_graph, "full.onnx")],
)
@pytest.mark.slow
def test_graphs(function: Callable[[Path], None], name: str, two_precisions: Path, tmp_path: Path) -> None:
    shutil.copytree(two_precisions, tmp_path / "bundle")
    trial = Trial(function, tmp_path)
    trial.add(hostile_onnx((two_precisions / name).read_bytes(), COUNT, seed=1))
    trial.run()
    assert trial.taken and trial.refused > trial.taken


@pytest.mark.parametrize(
    ("function", "name"),
    [(weights, "native/weights.safetensors"), (int8_weights, "native/weights.int8.safetensors")],
)
@pytest.mark.slow
def test_weights(function: Callable[[Path], None], name: str, two_precisions: Path, tmp_path: Path) -> None:
    shutil.copytree(two_precisions, tmp_path / "bundle")
    trial = Trial(function, tmp_path)
    trial.add(hostile_safetensors((two_precisions / name).read_bytes(), COUNT, seed=2))
    trial.run()
    assert trial.taken and trial.refused > trial.taken
