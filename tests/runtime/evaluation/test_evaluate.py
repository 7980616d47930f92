"""Metrics of bundles: the same by both graphs and every backend, and equal to what they mean."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.base.errors import ConfigError, DataError, InputError
from multires_edge.export import export_bundle
from multires_edge.runtime import Bundle, evaluate, open_bundle
from multires_edge.runtime.evaluation.dataset import Dataset
from multires_edge.runtime.evaluation.diagnostic import auroc
from multires_edge.runtime.evaluation.evaluate import compare
from multires_edge.runtime.images.pixels import levels_of
from tests.conftest import SMALL, random_inputs, random_net, recorded, save_published, variant
from tests.runtime.images.test_logistic_mixture import definition

WAYS = [(graph, backend) for graph in ("full", "step") for backend in ("native", "onnxruntime")]
X = random_inputs(SMALL, 7, 30)
TOKENS = random_inputs(variant(encoder="token"), 7, 30)
LENGTHS = np.array([1, 30, 4, 29, 17, 2, 30])


def dataset(inputs: np.ndarray, **known: Any) -> Dataset:
    return Dataset(Path("data.npz"), inputs, **known)


@pytest.fixture(scope="module")
def classifier(exported: Path) -> Bundle:
    return open_bundle(exported)


@pytest.fixture(scope="module")
def lower(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return _export(tmp_path_factory, precisions=("fp16",))


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return _export(tmp_path_factory, pool="window:10")


def _export(tmp_path_factory: pytest.TempPathFactory, **options: Any) -> Bundle:
    folder = tmp_path_factory.mktemp("exported")
    return open_bundle(export_bundle(save_published(random_net(SMALL), folder), folder / "b", **options).path)


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

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["drawing", "drawing_grey"])
    def test_bits_per_dimension(
        self, name: str, graph: str, backend: str, request: pytest.FixtureRequest
    ) -> None:
        bundle = open_bundle(request.getfixturevalue(name))
        channels = bundle.manifest.model.channels
        levels = np.random.default_rng(0).integers(0, 256, (3, channels, 8))
        x = (levels / 127.5 - 1).astype(np.float32)
        result = evaluate(bundle, dataset(x), graph=graph, backend=backend, batch=2)
        params = bundle.full()(x)
        bits = [-math.log2(definition(params[i, :, t], levels[i, :, t])) for i in range(3) for t in range(8)]
        assert result.metric == "bits_per_dimension"
        assert math.isclose(result.value, sum(bits) / levels.size, rel_tol=1e-5)


@pytest.mark.slow
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


class TestPrecisions:
    def test_side_by_side(self, lower: Bundle) -> None:
        labels = lower.full()(X).argmax(-1)
        data = dataset(X, labels=labels)
        first, second = compare(lower, data, ["fp32", "fp16"], batch=3, resamples=20)
        y = {precision: lower.full(precision=precision)(X) for precision in ("fp32", "fp16")}
        assert (first.precision, first.value) == ("fp32", 1)
        assert (first.difference, first.relative_error, first.difference_interval) == (None, None, None)
        assert second.difference == second.value - first.value
        error = np.abs(y["fp16"] - y["fp32"]).sum() / np.abs(y["fp32"]).sum()
        assert second.relative_error == pytest.approx(error, rel=1e-3) and error > 0
        assert list(first.interval or ()) == [1, 1]
        assert second.difference_interval is not None

    def test_the_first_is_the_reference(self, lower: Bundle) -> None:
        data = dataset(X, labels=np.zeros(7, int))
        orders = [compare(lower, data, order)[1] for order in (["fp32", "fp16"], ["fp16", "fp32"])]
        assert orders[0].precision == "fp16" and orders[1].precision == "fp32"
        assert orders[0].relative_error == pytest.approx(orders[1].relative_error, rel=1e-2)


class TestCarried:
    """Windows of 10 steps, records of 30: logits are of the record, features remember what was before."""

    @pytest.mark.parametrize("batch", [1, 3])
    def test_is_one_sequence_a_stream(self, windowed: Bundle, batch: int) -> None:
        data = dataset(X, labels=np.zeros(7, int))
        result = evaluate(windowed, data, graph="step", state="carried", batch=batch)
        for part in np.array_split(np.arange(7), batch):
            y = windowed.stream().run(np.concatenate(list(X[part]), axis=-1)[None])[0]
            assert np.allclose(result.predictions[part], y[:, 29::30].T, atol=1e-6)

    def test_differs_from_a_reset(self, windowed: Bundle) -> None:
        data = dataset(X, labels=np.zeros(7, int))
        carried, fresh = (
            evaluate(windowed, data, graph="step", state=state).predictions for state in ("carried", "reset")
        )
        assert np.allclose(carried[0], fresh[0], atol=1e-6)
        assert np.abs(carried[1:] - fresh[1:]).max() < 1e-5, "the window and all filters lie in the record"
        short = dataset(np.ascontiguousarray(X[..., :10]), labels=np.zeros(7, int))
        carried, fresh = (
            evaluate(windowed, short, graph="step", state=state).predictions for state in ("carried", "reset")
        )
        assert np.abs(carried[1:] - fresh[1:]).max() > 1e-3

    def test_cuts_records_to_their_lengths(self, windowed: Bundle) -> None:
        lengths = np.array([10, 30, 11, 29, 17, 12, 30])
        data = dataset(X, labels=np.zeros(7, int), lengths=lengths)
        result = evaluate(windowed, data, graph="step", state="carried")
        whole = np.concatenate([row[:, :n] for row, n in zip(X, lengths, strict=True)], axis=-1)
        y = windowed.stream().run(whole[None])[0]
        assert np.allclose(result.predictions, y[:, np.cumsum(lengths) - 1].T, atol=1e-6)
        with pytest.raises(InputError, match="give batch 1"):
            evaluate(windowed, data, graph="step", state="carried", batch=2)

    def test_an_image_follows_the_last_pixel_before_it(self, drawing: Path) -> None:
        bundle = open_bundle(drawing)
        x = (np.random.default_rng(0).integers(0, 256, (3, 3, 8)) / 127.5 - 1).astype(np.float32)
        carried = evaluate(bundle, dataset(x), graph="step", state="carried").value
        whole = np.concatenate(list(x), axis=-1)[None]
        assert math.isclose(carried, evaluate(bundle, dataset(whole)).value, rel_tol=1e-6)

    def test_refuses_numbers_without_a_meaning(self, classifier: Bundle, windowed: Bundle) -> None:
        data = dataset(X, labels=np.zeros(7, int))
        with pytest.raises(InputError, match=r"include all records before it.*--pool window:N, N up to 30"):
            evaluate(classifier, data, graph="step", state="carried")
        with pytest.raises(InputError, match="give graph 'step'"):
            evaluate(windowed, data, state="carried")
        with pytest.raises(InputError, match="expected reset or carried"):
            evaluate(windowed, data, state="kept")
        short = dataset(np.ascontiguousarray(X[..., :9]), labels=np.zeros(7, int))
        with pytest.raises(InputError, match="window:10, longer than a record of 9 steps"):
            evaluate(windowed, short, graph="step", state="carried")


def test_a_full_graph_without_lengths_runs_records_of_one_length_together(classifier: Bundle) -> None:
    result = evaluate(classifier, dataset(X, labels=np.zeros(7, int), lengths=LENGTHS), batch=3)
    full = classifier.full()
    alone = [full(X[i : i + 1, :, :length])[0] for i, length in enumerate(LENGTHS.tolist())]
    assert np.allclose(result.predictions, alone, atol=1e-6)


class TestRefusals:
    @pytest.mark.parametrize(
        ("known", "message"),
        [
            ({}, r"has no labels, expected labels \(n,\) or \(n, 3\)"),
            ({"labels": np.zeros(7)}, "labels are float64, expected integers"),
            ({"labels": np.full(7, 3)}, "labels run from 3 to 3, expected 0 to 2"),
            ({"labels": np.full(7, -1)}, "labels run from -1 to -1"),
            ({"labels": np.zeros((7, 2), int)}, r"expected \(n, 3\) of 0 and 1"),
            ({"labels": np.zeros((7, 0), int)}, r"shape \(7, 0\), expected \(n, 3\) of 0 and 1"),
            ({"labels": np.full((7, 3), 2)}, "run from 2 to 2"),
            (
                {"labels": np.eye(7, 3, dtype=int), "classes": ["a", "b"]},
                "names 2 classes, the network has 3",
            ),
            (
                {"labels": np.eye(7, 3, 1, dtype=int), "classes": ["a", "b", "c"]},
                "all 7 records have the same label for a; AUROC needs",
            ),
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

    def test_of_what_is_no_image(self, drawing: Path, token_predictor: Path) -> None:
        bundle = open_bundle(drawing)
        noise = random_inputs(variant(d_input=3), 2, 9)
        with pytest.raises(DataError, match="not 8-bit levels"):
            evaluate(bundle, dataset(noise))
        with pytest.raises(DataError, match="has lengths"):
            evaluate(bundle, dataset(np.ones_like(noise), lengths=np.array([9, 9])))
        with pytest.raises(DataError, match="takes tokens"):
            evaluate(open_bundle(token_predictor), dataset(TOKENS))
        manifest = replace(bundle.manifest, network=replace(bundle.manifest.model, d_output=99))
        with pytest.raises(ConfigError, match="99 outputs"):
            evaluate(Bundle(bundle.path, manifest), dataset(np.ones_like(noise)))
