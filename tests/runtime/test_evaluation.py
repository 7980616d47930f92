"""Metrics of bundles: the same by both graphs and every backend, and equal to what they mean."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.export import export_bundle
from multires_edge.runtime import Bundle, evaluate, open_bundle
from multires_edge.runtime.data import Dataset
from multires_edge.runtime.errors import ConfigError, DataError, InputError
from multires_edge.runtime.images import levels_of
from multires_edge.runtime.metrics import auroc
from tests.conftest import SMALL, random_inputs, recorded, variant
from tests.runtime.test_logistic_mixture import definition

WAYS = [(graph, backend) for graph in ("full", "step") for backend in ("native", "onnxruntime")]
X = random_inputs(SMALL, 7, 30)
TOKENS = random_inputs(variant(encoder="token"), 7, 30)
LENGTHS = np.array([1, 30, 4, 29, 17, 2, 30])


def dataset(inputs: np.ndarray, **known: Any) -> Dataset:
    return Dataset(Path("data.npz"), inputs, **known)


@pytest.fixture(scope="module")
def classifier(exported: Path) -> Bundle:
    return open_bundle(exported)


@pytest.mark.parametrize(("graph", "backend"), WAYS)
class TestEveryWay:
    def test_accuracy(self, classifier: Bundle, graph: str, backend: str) -> None:
        labels = classifier.full()(X).argmax(-1)
        labels[[2, 5]] = (labels[[2, 5]] + 1) % 3
        result = evaluate(classifier, dataset(X, labels=labels), graph=graph, backend=backend, batch=3)
        assert (result.metric, result.value) == ("accuracy", 5 / 7)
        assert result.predictions.shape == (7, 3)

    def test_lengths_count(self, token_classifier: Path, graph: str, backend: str) -> None:
        """A row's prediction is that of the row alone, cut to its length."""
        bundle = open_bundle(token_classifier)
        full = bundle.full()
        alone = [full(row[None, :length])[0] for row, length in zip(TOKENS, LENGTHS, strict=True)]
        labels = np.argmax(alone, axis=-1)
        data = dataset(TOKENS, labels=labels, lengths=LENGTHS)
        result = evaluate(bundle, data, graph=graph, backend=backend, batch=4)
        assert result.value == 1
        assert np.allclose(result.predictions, alone, atol=1e-5)

    def test_auroc(self, classifier: Bundle, graph: str, backend: str) -> None:
        labels = np.random.default_rng(0).integers(0, 2, (7, 3)).astype(np.uint8)
        labels[0], labels[1] = 0, 1
        data = dataset(X, labels=labels, classes=["a", "b", "c"])
        result = evaluate(classifier, data, graph=graph, backend=backend, batch=2)
        logits = classifier.full()(X)
        areas = {name: auroc(logits[:, i], labels[:, i]) for i, name in enumerate("abc")}
        assert result.metric == "auroc_macro" and result.by_class == areas
        assert math.isclose(result.value, sum(areas.values()) / 3)

    @pytest.mark.parametrize("name", ["drawing", "drawing_grey"])
    def test_bits_per_dimension(
        self, name: str, graph: str, backend: str, request: pytest.FixtureRequest
    ) -> None:
        bundle = open_bundle(request.getfixturevalue(name))
        channels = bundle.manifest.model["d_input"]
        levels = np.random.default_rng(0).integers(0, 256, (3, channels, 8))
        x = (levels / 127.5 - 1).astype(np.float32)
        result = evaluate(bundle, dataset(x), graph=graph, backend=backend, batch=2)
        params = bundle.full()(x)
        bits = [-math.log2(definition(params[i, :, t], levels[i, :, t])) for i in range(3) for t in range(8)]
        assert result.metric == "bits_per_dimension"
        assert math.isclose(result.value, sum(bits) / levels.size, rel_tol=1e-5)


@pytest.mark.parametrize("graph", ["full", "step"])
def test_trained_pixels_against_the_recorded_outputs(tmp_path: Path, graph: str) -> None:
    checkpoint, reference = recorded("pixels-autoregressive-k4")
    bundle = open_bundle(export_bundle(checkpoint, tmp_path / "a.bundle").path)
    x, y = reference["x"], reference["y"]
    levels = levels_of(x)
    nats = [math.log(definition(y[0, :, t], levels[0, :, t])) for t in range(x.shape[-1])]
    expected = -sum(nats) / (x.size * math.log(2))
    result = evaluate(bundle, dataset(x), graph=graph)
    assert 1 < expected < 8  # fewer bits than it costs to know nothing
    assert math.isclose(result.value, expected, rel_tol=1e-6)


class TestRefusals:
    @pytest.mark.parametrize(
        ("known", "message"),
        [
            ({}, r"holds no labels; expected labels \(n,\) or \(n, 3\)"),
            ({"labels": np.zeros(7)}, "labels are float64, expected integers"),
            ({"labels": np.full(7, 3)}, "labels run from 3 to 3, expected 0 to 2"),
            ({"labels": np.full(7, -1)}, "labels run from -1 to -1"),
            ({"labels": np.zeros((7, 2), int)}, r"expected \(n, 3\) of 0 and 1"),
            ({"labels": np.full((7, 3), 2)}, "run from 2 to 2"),
            ({"labels": np.zeros((7, 3), int)}, "class 0: all 7 records have the same label, 0"),
        ],
    )
    def test_of_labels(self, classifier: Bundle, known: dict[str, Any], message: str) -> None:
        with pytest.raises(DataError, match=message):
            evaluate(classifier, dataset(X, **known))

    def test_of_classes_in_another_order(self, exported: Path) -> None:
        bundle = open_bundle(exported)
        object.__setattr__(bundle.manifest, "labels", ["a", "b", "c"])
        data = dataset(X, labels=np.zeros((7, 3), int), classes=["c", "b", "a"])
        with pytest.raises(DataError, match="classes are c, b, a, the bundle has a, b, c"):
            evaluate(bundle, data)

    def test_of_a_graph_that_is_not_there(self, classifier: Bundle) -> None:
        with pytest.raises(InputError, match="expected full or step"):
            evaluate(classifier, dataset(X, labels=np.zeros(7, int)), graph="half")

    def test_of_lengths_that_the_full_graph_does_not_take(self, classifier: Bundle) -> None:
        data = dataset(X, labels=np.zeros(7, int), lengths=LENGTHS)
        with pytest.raises(InputError, match="export it with --lengths"):
            evaluate(classifier, data)

    def test_of_what_is_no_image(self, drawing: Path, token_predictor: Path) -> None:
        bundle = open_bundle(drawing)
        noise = random_inputs(variant(d_input=3), 2, 9)
        with pytest.raises(DataError, match="not 8-bit levels"):
            evaluate(bundle, dataset(noise))
        with pytest.raises(DataError, match="holds lengths"):
            evaluate(bundle, dataset(np.ones_like(noise), lengths=np.array([9, 9])))
        with pytest.raises(DataError, match="takes tokens"):
            evaluate(open_bundle(token_predictor), dataset(TOKENS))
        bundle.manifest.model["d_output"] = 99
        with pytest.raises(ConfigError, match="99 numbers"):
            evaluate(bundle, dataset(np.ones_like(noise)))
