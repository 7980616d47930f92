"""Networks with an output at every step: evaluated against labels of steps, and in ECG streams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.base.errors import DataError, InputError
from multires_edge.export import export_bundle
from multires_edge.models.inference import Overrides
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.ecg.settings import Pool
from multires_edge.runtime.ecg.stream import EcgStream
from multires_edge.runtime.evaluation.dataset import load_file
from multires_edge.runtime.evaluation.diagnostic import auroc
from multires_edge.runtime.evaluation.evaluate import evaluate
from tests.conftest import as_double, random_inputs, random_net, save_published, variant
from tests.runtime.conftest import CARD, beats

NET = random_net(variant(pooling="none"), seed=3)
PREDICTOR = random_net(variant(task="autoregressive", encoder="token", shifted=False, d_output=11))
RANDOM = np.random.default_rng(5)


@pytest.fixture(scope="module")
def per_step(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("per_step")
    (folder / "card.json").write_text(json.dumps(CARD))
    checkpoint = save_published(NET, folder)
    return open_bundle(export_bundle(checkpoint, folder / "b", pool="none", card=folder / "card.json").path)


def evaluated(bundle: Bundle, path: Path, arrays: dict[str, Any], **options: Any) -> Any:
    np.savez(path, **arrays)
    return evaluate(bundle, load_file(path, bundle.manifest.model, None), resamples=20, **options)


@pytest.mark.parametrize("graph", ["full", "step"])
class TestEvaluate:
    def test_accuracy_is_over_labelled_steps(self, per_step: Bundle, graph: str, tmp_path: Path) -> None:
        x = random_inputs(NET.config, 6, 40)
        labels = RANDOM.integers(-1, 3, (6, 40))
        right = NET(as_double(x).float()).numpy().argmax(1) == labels
        result = evaluated(per_step, tmp_path / "d.npz", {"x": x, "labels": labels}, graph=graph)
        assert result.metric == "accuracy" and result.value == pytest.approx(right[labels >= 0].mean())

    def test_auroc_is_over_the_steps_of_each_record(
        self, per_step: Bundle, graph: str, tmp_path: Path
    ) -> None:
        x, lengths = random_inputs(NET.config, 6, 40), np.array([40, 3, 17, 40, 1, 30])
        labels = RANDOM.integers(0, 2, (6, 3, 40))
        within = np.arange(40) < lengths[:, None]
        y = NET(as_double(x).float()).numpy()
        expected = [auroc(y[:, c][within], labels[:, c][within]) for c in range(3)]
        arrays = {"x": x, "labels": labels, "lengths": lengths}
        result = evaluated(per_step, tmp_path / "d.npz", arrays, graph=graph, batch=4)
        assert list(result.by_class) == ["A", "B", "C"]
        assert result.value == pytest.approx(np.mean(expected)) and result.metric == "auroc_macro"

    def test_a_token_model_predicts_the_next_token(self, graph: str, tmp_path: Path) -> None:
        bundle = open_bundle(
            export_bundle(save_published(PREDICTOR, tmp_path), overrides=Overrides(shifted=False)).path
        )
        assert bundle.manifest.graph("full", "fp32").outputs[0].name == "logits"
        tokens = random_inputs(PREDICTOR.config, 5, 30)
        following = np.concatenate([tokens[:, 1:], np.full((5, 1), -1)], axis=1)
        right = PREDICTOR(as_double(tokens)).numpy().argmax(1)[:, :-1] == tokens[:, 1:]
        result = evaluated(bundle, tmp_path / "d.npz", {"tokens": tokens, "labels": following}, graph=graph)
        assert result.value == pytest.approx(right.mean())


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros(6, int), "labels of 40 steps for each record"),
        (np.zeros((6, 3), int), "labels of 40 steps for each record"),
        (np.zeros((6, 2, 40), int), r"expected \(n, 3, time\) of 0 and 1, or \(n, time\)"),
        (np.full((6, 40), 3), "labels run from 3 to 3, expected 0 to 2"),
        (np.full((6, 40), -1), "no step has a label"),
        (np.zeros((6, 3, 40), int), "all 240 steps have the same label for A, B, C"),
        (None, r"expected labels \(n, time\) or \(n, 3, time\)$"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    per_step: Bundle, labels: Any, words: str, tmp_path: Path
) -> None:
    arrays = {"x": random_inputs(NET.config, 6, 40)} | ({} if labels is None else {"labels": labels})
    with pytest.raises(DataError, match=words):
        evaluated(per_step, tmp_path / "d.npz", arrays)


class TestEcg:
    def decide(self, bundle: Bundle, x: np.ndarray, **options: Any) -> list[Any]:
        stream = EcgStream(bundle, leads=["I", "II"], rate=100, unit="mV", **options)
        return [*stream.feed(x), *stream.finish()]

    @pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
    def test_a_decision_is_that_of_its_sample(self, per_step: Bundle, backend: str) -> None:
        x = beats(5, 100)
        decisions = [
            d for d in self.decide(per_step, x, every="50ms", backend=backend) if hasattr(d, "logits")
        ]
        assert per_step.preprocessing is not None
        whole = per_step.full()(per_step.preprocessing.inputs(x.T)[None])[0]
        assert len(decisions) == 100 and {d.seen for d in decisions} == {0.01}
        for k, decision in enumerate(decisions):
            assert np.abs(decision.logits - whole[:, 5 * k + 4]).max() < 1e-4

    @pytest.mark.parametrize("pool", ["window:10s", "cumulative", "reset:10s", "max"])
    def test_there_is_nothing_to_pool(self, per_step: Bundle, pool: str) -> None:
        with pytest.raises(InputError, match="an output at every step, and a decision is that of its sample"):
            self.decide(per_step, beats(1, 100), pool=pool)
        with pytest.raises(InputError, match="has an output at every step"):
            per_step.stream(pool="cumulative")

    def test_other_poolings_are_the_bundles_own(self) -> None:
        from multires_edge.format.pooling import Last, Max, parse_pooling

        assert Pool.parse(None, 100, Last()) == Pool()
        assert Pool.parse("reset:2s", 100, Max()) == Pool(Max(), 200)
        both = parse_pooling("cumulative+max")
        assert Pool.parse("window:2s+max", 100, both) == Pool(parse_pooling("window:200+max"))

    def test_a_window_is_of_every_kind(self) -> None:
        from multires_edge.format.pooling import Max, parse_pooling

        assert Pool.parse(None, 100, Max()) == Pool(Max(1000))
        both = parse_pooling("cumulative+max+last")
        window = Pool(parse_pooling("window:200+max:200+last"))
        assert Pool.parse("window:2s", 100, both) == window and window.window(both) == 200
        assert Pool.parse("reset:2s", 100, window.pooling).suits(window.pooling) == Pool(None, 200)
