"""calibration.json: written, read back, and refused when it cannot be right."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.base.errors import DataError, OutputError
from multires_edge.calibration import CalibrationTable, calibrate
from multires_edge.calibration.table import network_digest
from multires_edge.runtime.evaluation.dataset import Dataset
from tests.conftest import SMALL, random_inputs, random_net, variant

NET = random_net(SMALL)


@pytest.fixture(scope="module")
def table() -> CalibrationTable:
    return calibrate(NET, Dataset(Path("some.npz"), random_inputs(SMALL, 20, 100)))


def test_there_and_back(table: CalibrationTable, tmp_path: Path) -> None:
    table.write(tmp_path / "t.json")
    back = CalibrationTable.read(tmp_path / "t.json")
    assert back.to_json() == table.to_json()
    assert back.config == SMALL
    for name, tensor in table.tensors.items():
        assert np.array_equal(back.tensors[name].thresholds, tensor.thresholds)
        assert back.tensors[name].scales.dtype == np.float32
        assert np.array_equal(back.tensors[name].scales, tensor.scales)
    back.check_network(NET)


def test_one_line_a_tensor(table: CalibrationTable, tmp_path: Path) -> None:
    table.write(tmp_path / "t.json")
    lines = (tmp_path / "t.json").read_text().splitlines()
    assert sum(line.startswith('    "') for line in lines) >= len(table.tensors)
    assert [line for line in lines if line.startswith('    "layers.1.mixing.input": {"thresholds": ')]


def test_reading_needs_no_torch(table: CalibrationTable, tmp_path: Path) -> None:
    table.write(tmp_path / "t.json")
    program = (
        "import sys; from multires_edge.calibration import CalibrationTable; "
        "print(len(CalibrationTable.read(sys.argv[1]).tensors), 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "t.json")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [str(len(table.tensors)), "False"]


def test_an_existing_file(table: CalibrationTable, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        table.write(tmp_path / "t.json")
    assert (tmp_path / "t.json").read_text() == "mine"
    table.write(tmp_path / "t.json", force=True)
    CalibrationTable.read(tmp_path / "t.json")


class TestNetworks:
    def test_another_ones_table(self, table: CalibrationTable) -> None:
        with pytest.raises(DataError, match=r"is another network's.*calibrate again"):
            table.check_network(random_net(SMALL, seed=1))

    def test_the_same_weights_as_another_tree(self) -> None:
        """The depth of a uniform tree is not in its weights."""
        config = variant(tree_select="uniform", memory_size=9)
        net, deeper = random_net(config), random_net(replace(config, depth=config.depth + 1))
        deeper.load_state_dict(net.state_dict())
        table = calibrate(net, Dataset(Path("some.npz"), random_inputs(config, 20, 100)))
        table.check_network(net)
        with pytest.raises(DataError, match="made with depth 3, the network is read with 4"):
            table.check_network(deeper)

    def test_every_weight_counts(self) -> None:
        digests = {network_digest(NET)}
        for name in NET.state_dict():
            net = random_net(SMALL)
            net.state_dict()[name].view(-1)[-1] += 1e-3
            digests.add(network_digest(net))
        assert len(digests) == 1 + len(NET.state_dict())

    def test_the_count_of_batches_does_not(self) -> None:
        net = random_net(variant(norm="batch"))
        before = network_digest(net)
        net.state_dict()["norms.0.num_batches_tracked"] += 1
        assert network_digest(net) == before


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Set the entry at path[:-1] to path[-1]."""

    def change(entry: dict[str, Any]) -> None:
        *parents, key, value = path
        target: Any = entry
        for parent in parents:
            target = target[parent]
        target[key] = value

    return change


def drop(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(entry: dict[str, Any]) -> None:
        target: Any = entry
        for parent in path[:-1]:
            target = target[parent]
        del target[path[-1]]

    return change


X, Q = ("tensors", "encoder.input"), ("tensors", "layers.0.queues.1")


def one_more(entry: dict[str, Any]) -> None:
    entry["tensors"]["layers.7.queues.0"] = entry["tensors"]["layers.0.queues.0"]


def nothing_seen(entry: dict[str, Any]) -> None:
    entry["tensors"]["encoder.input"] |= {"count": 0, "histogram": {"range": 1.0, "counts": [0] * 64}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("format", "other"), "not a calibration table"),
        (put("version", 2), "version 2, this release reads 1"),
        (put("version", True), "version True"),
        (drop(*Q), r"missing tensors: layers\.0\.queues\.1"),
        (one_more, r"unknown tensors: layers\.7\.queues\.0"),
        (put("tensors", []), r"tensors is \[\], expected an object"),
        (put("tensors", {}), "missing tensors: encoder.input, .* and 7 more"),
        (drop("network"), "has no network"),
        (put("network", "sha256", "abc"), "network.sha256 is 'abc', expected 64 hex"),
        (put("network", "config", "depth", 0), "depth is 0"),
        (put("network", "config", "depth", "3"), "network.config.depth is '3', expected an integer"),
        (put("network", "config", "n_layers", 10**9), "network.config.n_layers is 1000000000"),
        (drop("network", "config", "depth"), "network.config: has no depth"),
        (put("method", "percentile"), "method is 'percentile', expected an object"),
        (put(*X, "thresholds", [-1.0, 1.0]), r"encoder.input.thresholds\[0\] is -1.0, expected"),
        (put(*X, "thresholds", [0, 1.0]), r"thresholds\[0\] is 0, expected"),
        (put(*X, "thresholds", [1e-38, 1.0]), "1e-38, expected 1.49e-36 to 3.4e.38"),
        (put(*X, "thresholds", [1e39, 1.0]), "1e.39, expected 1.49e-36 to 3.4e.38"),
        (put(*X, "thresholds", [10**400, 1.0]), "expected a finite number"),
        (put(*X, "thresholds", ["1", 1.0]), r"thresholds\[0\] is '1', expected a number"),
        (put(*X, "thresholds", [True, 1.0]), r"thresholds\[0\] is True, expected a number"),
        (put(*X, "thresholds", [[1.0], 1.0]), r"thresholds\[0\] is \[1.0\], expected a number"),
        (put(*Q, "thresholds", 1.0), "thresholds is 1.0, expected a list"),
        (put(*Q, "thresholds", [1.0] * 7), "layers.0.queues.1: 7 thresholds, expected 8"),
        (put(*Q, "thresholds", [1.0] * 7 + [None]), r"thresholds\[7\] is None, expected a number"),
        (put(*X, "largest", 0), "largest is 0, expected a number above 0"),
        (put("method", "name", "guess"), "method: unknown method 'guess', expected one of minmax"),
        (put("method", "name", "mse"), "method: method mse takes no percentile"),
        (drop("method", "percentile"), "method: method percentile takes a percentile"),
        (put("method", "percentile", 101), "method: percentile is 101, expected above 0 and at most 100"),
        (put("data", "records", 0), "data: 0 records"),
        (put("data", "file", "\x1b"), "data.file is .*, expected one line of text"),
        (put(*X, "count", 5), "expected 5 in 64"),
        (put(*X, "count", 1.5), "count is 1.5, expected an integer"),
        (put(*X, "histogram", {"range": 1.0, "counts": [1]}), "1 bins, expected"),
        (put(*X, "histogram", "counts", 0, -1), r"counts\[0\] is -1"),
        (put(*X, "histogram", None), "histogram is None, expected an object"),
        (put(*X, "histogram", "range", 0), "range is 0, expected a number above 0"),
        (nothing_seen, "histogram has 0 values"),
        (drop(*X, "sqnr_db"), "has no sqnr_db"),
        (put(*X, None), "encoder.input is None, expected an object"),
    ],
)  # fmt: skip
def test_bad(
    table: CalibrationTable, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    entry = json.loads(json.dumps(table.to_json()))
    change(entry)
    (tmp_path / "t.json").write_text(json.dumps(entry))
    with pytest.raises(DataError, match=rf"t\.json: .*{message}"):
        CalibrationTable.read(tmp_path / "t.json")


def test_unreadable(table: CalibrationTable, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    with pytest.raises(DataError, match="no such file"):
        CalibrationTable.read(path)
    table.write(path)
    whole = path.read_text()
    nan = whole.replace('"thresholds": ', '"thresholds": NaN, "was": ', 1)
    for content in ("", whole[: len(whole) // 2], "\xff", nan, "[" * 100_000):
        path.write_text(content, encoding="latin-1")
        with pytest.raises(DataError, match="cannot be read"):
            CalibrationTable.read(path)
    path.write_text("[]")
    with pytest.raises(DataError, match="not a calibration table"):
        CalibrationTable.read(path)
    with pytest.raises(DataError, match="cannot be read"):
        CalibrationTable.read(tmp_path)
