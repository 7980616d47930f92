"""Mixed precision by budget: sensitivities are what they say, the budget holds, or nothing is written."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from multires_edge.base.errors import ConfigError
from multires_edge.calibration.measure import calibrate
from multires_edge.calibration.table import CalibrationTable
from multires_edge.cli.commands.export import export
from multires_edge.export import accuracy_budget as budget_module
from multires_edge.export.accuracy_budget import Budget, BudgetError, Effect, keep_within
from multires_edge.export.folding import FoldedNetwork, fold
from multires_edge.export.graphs.full import build_full_graph
from multires_edge.export.linear import QuantizedLinear
from multires_edge.export.options import PARTS
from multires_edge.export.precision.int8 import linear_named, quantizable, quantize
from multires_edge.export.quantization import full_graphs
from multires_edge.format.targets import TARGETS
from multires_edge.models.network import MultiresNet
from multires_edge.runtime import open_bundle
from multires_edge.runtime.evaluation.dataset import Dataset
from tests.cli.commands.test_export import assert_refused
from tests.conftest import random_inputs, random_net, save_published, variant
from tests.export.graphs.harness import session

FORM = TARGETS["portable"].form
NET = random_net(variant(n_layers=3))
X = random_inputs(NET.config, 24, 40)
NAMES = ["layers.0.mixing", "layers.1.mixing", "layers.2.mixing"]


def logits(network: FoldedNetwork, x: NDArray[Any] = X) -> NDArray[np.float64]:
    model = build_full_graph(network, FORM)
    y: NDArray[np.float64] = session(model.SerializeToString()).run(None, {"x": x})[0].astype(np.float64)
    return y


def relative_error(y: NDArray[Any], reference: NDArray[Any]) -> float:
    return float(np.abs(y - reference).sum() / np.abs(reference).sum())


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> CalibrationTable:
    return table_of(NET, tmp_path_factory.mktemp("data"))


def table_of(net: MultiresNet, folder: Path) -> CalibrationTable:
    file = folder / "data.npz"
    np.savez(file, X)
    return calibrate(net, Dataset(file, random_inputs(net.config, 24, 40)))


def choose(table: CalibrationTable, max_drop: float, **options: Any) -> Budget:
    data = options.pop("data", Dataset(Path("x.npz"), X))
    build = full_graphs(fold(NET), table, FORM, lengths=data.lengths is not None)
    return keep_within(build, NET.config, data, max_drop, NAMES, **options)


def test_each_weight_alone_is_measured_alone(table: CalibrationTable) -> None:
    network = fold(NET)
    reference = logits(network)
    budget = choose(table, 1.0)
    assert list(budget.alone) == NAMES and not budget.keep
    for name, effect in budget.alone.items():
        only = quantize(network, table, [name])
        assert isinstance(linear_named(only, name), QuantizedLinear)
        assert effect.error == pytest.approx(relative_error(logits(only), reference), rel=1e-4)
        assert effect.drop == effect.error > 0


def test_the_worst_stay_in_float32_until_the_budget_holds(table: CalibrationTable) -> None:
    everything = choose(table, 1.0)
    worst_first = sorted(NAMES, key=lambda name: -everything.alone[name].error)
    # Just below what a mixture costs, one more has to go.
    limit = everything.effect.error * 0.999
    budget = choose(table, limit)
    assert budget.keep and budget.effect.error <= limit
    mixtures = list(budget.tried)
    greedy = next(keep for keep in mixtures if budget.tried[keep].drop <= limit)
    assert mixtures[: len(greedy) + 1] == [frozenset(worst_first[:n]) for n in range(len(greedy) + 1)]
    mixture = logits(quantize(fold(NET), table, set(NAMES) - budget.keep))
    assert relative_error(mixture, logits(fold(NET))) == pytest.approx(budget.effect.error, rel=1e-4)


def test_nothing_is_kept_for_nothing(table: CalibrationTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the two with the largest errors only the second costs the metric: the first goes back to int8."""
    errors = dict(zip(NAMES, (0.3, 0.2, 0.1), strict=True))

    def effect(self: object, quantized: Collection[str]) -> Effect:
        return Effect(sum(errors[name] for name in quantized), float(NAMES[1] in quantized))

    monkeypatch.setattr(budget_module._Measure, "effect", effect)
    budget = choose(table, 0.5)
    assert budget.keep == {NAMES[1]}
    assert list(map(len, budget.tried)) == [0, 1, 2, 1]
    assert budget.effect == Effect(errors[NAMES[0]] + errors[NAMES[2]], 0.0)


def test_a_budget_that_nothing_keeps(table: CalibrationTable) -> None:
    with pytest.raises(BudgetError, match=r"within 1e-09 .* all 3 weights .* with only .*--max-drop"):
        choose(table, 1e-9)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_budget_is_a_number_from_zero_on(table: CalibrationTable, value: float) -> None:
    with pytest.raises(ConfigError, match="max drop is"):
        choose(table, value)


def test_labels_make_it_a_metric(table: CalibrationTable) -> None:
    """Labels that float32 gets right: what int8 gets wrong is the drop of accuracy."""
    labels = logits(fold(NET)).argmax(-1)
    wrong = (logits(quantize(fold(NET), table)).argmax(-1) != labels).mean()
    budget = choose(table, 1.0, data=Dataset(Path("x.npz"), X, labels=labels))
    assert (budget.metric, budget.reference) == ("accuracy", 1.0)
    assert budget.effect.drop == pytest.approx(wrong) and budget.effect.error > 0


def test_lengths_are_pooled_over(tmp_path: Path) -> None:
    net = random_net(variant(encoder="token"))
    tokens, lengths = random_inputs(net.config, 40, 40), np.full(40, 7)
    file = tmp_path / "data.npz"
    np.savez(file, tokens)
    table = calibrate(net, Dataset(file, tokens, lengths))

    def error(data: Dataset) -> float:
        build = full_graphs(fold(net), table, FORM, lengths=data.lengths is not None)
        return keep_within(build, net.config, data, 1.0, quantizable(net.config)).effect.error

    cut = np.ascontiguousarray(tokens[:, :7])
    assert error(Dataset(file, tokens, lengths)) == pytest.approx(error(Dataset(file, cut)), rel=1e-3)


@pytest.mark.parametrize("task", ["classification", "autoregressive"])
def test_every_part_can_be_quantised_alone(task: str, tmp_path: Path) -> None:
    net = random_net(variant(task=task))
    network, table = fold(net), table_of(net, tmp_path)
    names = quantizable(net.config, PARTS)
    expected = [f"layers.{i}.{part}" for i in range(2) for part in ("filters", "mixing")]
    if task == "autoregressive":
        expected = [name for i in range(2) for name in (*expected[2 * i : 2 * i + 2], f"layers.{i}.output")]
    assert names == ["encoder", *expected, "head", "queues"]
    x = random_inputs(net.config, 24, 40)
    reference = logits(network, x)
    for name in names:
        alone = quantize(network, table, [name])
        assert 0 < relative_error(logits(alone, x), reference) < 0.2, name


class TestQuantizableRefuses:
    def test_a_table_of_tokens(self) -> None:
        with pytest.raises(ConfigError, match="cannot be quantized: it has no input range"):
            quantizable(variant(encoder="token"), ["encoder"])

    def test_nothing(self) -> None:
        with pytest.raises(ConfigError, match="has no output to quantize"):
            quantizable(NET.config, ["output"])


class TestCommand:
    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Path:
        np.savez(tmp_path / "data.npz", x=X)
        return save_published(NET, tmp_path / "run")

    def run(self, checkpoint: Path, *options: object) -> Any:
        data = checkpoint.parents[1] / "data.npz"
        words = [checkpoint, "--precision", "int8", "--calibration-data", data, *options]
        return CliRunner().invoke(export, [str(word) for word in words])

    def test_the_choice_is_told_and_kept(self, checkpoint: Path, table: CalibrationTable) -> None:
        budget = choose(table, choose(table, 1.0).effect.error * 0.999)
        result = self.run(checkpoint, "--max-drop", budget.max_drop)
        assert result.exit_code == 0, result.output
        assert f"{len(budget.keep)} of 3 kept in float32: relative_error drops by" in result.stdout
        bundle = open_bundle(checkpoint.with_suffix(".bundle"))
        types = bundle.manifest.quantization["int8"].tensors
        assert types == {name: "float32" if name in budget.keep else "int8" for name in NAMES}
        told = (bundle.parity().quantization or {})["int8"]
        held = [mixture for mixture in told["budget"]["tried"] if mixture["drop"] <= budget.max_drop]
        assert sorted(budget.keep) in [mixture["kept"] for mixture in held]
        assert {name: entry["type"] for name, entry in told["tensors"].items()} == types
        page = (bundle.path / "report.html").read_text()
        assert page.count("<figcaption>") == 3 and page.count(">float32</b>") == len(budget.keep)

    @pytest.mark.slow
    def test_json(self, checkpoint: Path) -> None:
        result = self.run(checkpoint, "--quantize", "mixing,filters", "--json")
        tensors = json.loads(result.stdout)["quantization"]["tensors"]
        assert set(tensors) == {f"layers.{i}.{part}" for i in range(3) for part in ("filters", "mixing")}
        assert "input_threshold" not in tensors["layers.0.filters"]

    def test_refusals_write_nothing(self, checkpoint: Path, tmp_path: Path) -> None:
        assert_refused(
            self.run(checkpoint, "--max-drop", "1e-9"), "no mixture keeps", "Give a larger --max-drop"
        )
        assert_refused(self.run(checkpoint, "--max-drop", "-1"), "expected a number from 0 on")
        assert_refused(
            self.run(checkpoint, "--quantize", "weights"), "'weights', expected one of encoder, filters"
        )
        assert_refused(self.run(checkpoint, "--budget-data", tmp_path / "data.npz"), "give --max-drop")
        words = [str(checkpoint), "--max-drop", "0.1"]
        assert_refused(CliRunner().invoke(export, words), "add int8 to the precisions")
        assert not checkpoint.with_suffix(".bundle").exists()
