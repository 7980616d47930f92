"""``multires-edge evaluate`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from multires_edge.base.files import sha256_of
from multires_edge.cli.main import main
from multires_edge.export import export_bundle
from multires_edge.format.figures import EVALUATION, Figure
from multires_edge.format.specs import DataUsed
from multires_edge.runtime import open_bundle
from tests.cli.commands.test_export import assert_refused
from tests.conftest import SMALL, random_inputs

X = random_inputs(SMALL, 6, 20)


def run(bundle: Path, data: Path, *arguments: object) -> Result:
    command = ["evaluate", bundle, "--data", data, *arguments]
    return CliRunner().invoke(main, [str(word) for word in command])


@pytest.fixture
def data(exported: Path, tmp_path: Path) -> Path:
    """Six records, of which the network gets the first four right."""
    labels = open_bundle(exported).full()(X).argmax(-1)
    labels[4:] = (labels[4:] + 1) % 3
    np.savez(tmp_path / "data.npz", x=X, labels=labels)
    return tmp_path / "data.npz"


def test_for_a_person(exported: Path, data: Path) -> None:
    result = run(exported, data)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "accuracy 0.6667  (6 records, full graph, fp32)\n"


@pytest.mark.parametrize("graph", ["full", "step"])
@pytest.mark.parametrize(("limit", "value"), [(None, 4 / 6), (5, 4 / 5), (1, 1.0), (99, 4 / 6)])
def test_as_json(exported: Path, data: Path, graph: str, limit: int | None, value: float) -> None:
    options = [] if limit is None else ["--limit", limit]
    result = run(exported, data, "--json", "--graph", graph, "--batch", 4, "--backend", "native", *options)
    figures = EVALUATION.from_json(json.loads(result.stdout))
    manifest = open_bundle(exported).manifest
    figures.check(manifest)
    records = min(limit or 6, 6)
    assert figures.data == DataUsed("data.npz", sha256_of(data), records, 20 * records)
    assert (figures.graph, figures.backend, figures.metric) == (graph, "native", "accuracy")
    assert figures.state == ("reset" if graph == "step" else None)
    [(precision, first)] = figures.precisions.items()
    assert (precision, first.value, first.difference) == ("fp32", Figure(value), None)
    assert first.graph.sha256 == manifest.graph(graph, "fp32").sha256


def test_precisions_side_by_side(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    bundle = export_bundle(checkpoint, tmp_path / "b", precisions=("fp16",)).path
    result = run(bundle, data, "--precision", "fp32, fp16", "--bootstrap", 50)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert result.stdout.startswith("accuracy  (6 records, full graph)\n")
    assert [line[0] for line in lines[2:]] == ["fp32", "fp16"]
    assert "difference" in lines[1] and lines[3][1] == "0.6667" and "+0.00000" in lines[3]
    entry = json.loads(run(bundle, data, "--precision", "fp32,fp16", "--bootstrap", 50, "--json").stdout)
    first, second = entry["precisions"].values()
    assert first["value"] == second["value"] and 0 < second["relative_error"] < 1e-2
    low, high = first["value"]["interval"]
    assert low <= first["value"]["value"] <= high
    assert second["difference"] == {"value": 0, "interval": [0, 0]}


def test_an_interval_beside_one_value(exported: Path, data: Path) -> None:
    lines = {run(exported, data, "--bootstrap", 100).stdout for _ in range(2)}
    [line] = lines
    assert line.startswith("accuracy 0.6667 [") and line.endswith("]  (6 records, full graph, fp32)\n")


def test_a_carried_state(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    bundle = export_bundle(checkpoint, tmp_path / "b", pool="window:9").path
    result = run(bundle, data, "--graph", "step", "--state", "carried")
    assert "(6 records, step graph, state carried, fp32)" in result.stdout


def test_every_class_has_a_line(exported: Path, tmp_path: Path) -> None:
    labels = np.tile([[0, 1, 0], [1, 0, 1]], (3, 1))
    np.savez(tmp_path / "data.npz", x=X, labels=labels, classes=["a", "b", "c"])
    result = run(exported, tmp_path / "data.npz")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0][:2] == ["macro", "AUROC"]
    assert [name for name, _ in lines[1:]] == ["a", "b", "c"]
    assert abs(float(lines[0][2]) - np.mean([float(area) for _, area in lines[1:]])) < 1e-4


class TestRefusals:
    def test_bad_data(self, exported: Path, data: Path, tmp_path: Path) -> None:
        assert_refused(run(exported, tmp_path / "none.npz"), "no such file")
        whole = data.read_bytes()
        (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
        assert_refused(run(exported, tmp_path / "cut.npz"), "damaged")
        np.savez(tmp_path / "nan.npz", x=X + np.float32(np.nan), labels=np.zeros(6, int))
        assert_refused(run(exported, tmp_path / "nan.npz"), "NaN")
        np.savez(tmp_path / "bare.npz", x=X)
        assert_refused(run(exported, tmp_path / "bare.npz"), "has no labels")

    def test_microvolt_without_preprocessing(self, exported: Path, tmp_path: Path) -> None:
        np.savez(tmp_path / "uv.npz", x_uv=X.astype(np.int16), labels=np.zeros(6, int))
        assert_refused(run(exported, tmp_path / "uv.npz"), "needs a card with preprocessing")

    def test_field_conditions_without_a_card(self, exported: Path, data: Path) -> None:
        assert_refused(run(exported, data, "--field-conditions"), "card")

    def test_a_precision_or_backend_that_is_not_there(self, exported: Path, data: Path) -> None:
        assert_refused(run(exported, data, "--precision", "fp16"), "'fp16'", "it has: fp32")
        assert_refused(run(exported, data, "--precision", "int3"), "unknown precision 'int3'", "int8?")
        assert_refused(run(exported, data, "--backend", "abacus"), "expected one of auto, native")

    def test_a_carried_state_of_everything_so_far(self, exported: Path, data: Path) -> None:
        refused = run(exported, data, "--graph", "step", "--state", "carried")
        assert_refused(refused, "cumulative pooling", "--pool window:N")
        assert_refused(run(exported, data, "--state", "carried"), "give graph 'step'")

    def test_no_bundle(self, data: Path, tmp_path: Path) -> None:
        assert_refused(run(tmp_path, data), "not a bundle")
