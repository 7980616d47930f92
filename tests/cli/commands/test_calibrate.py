"""``multires-edge calibrate`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from multires_edge.calibration import CalibrationTable, calibrate
from multires_edge.calibration.ranges import Method
from multires_edge.cli.main import main
from multires_edge.models import load_checkpoint
from multires_edge.runtime.evaluation.recordings import load_data
from tests.cli.commands.test_export import assert_refused
from tests.conftest import SMALL, random_inputs, random_net, save_published, variant
from tests.runtime.conftest import CARD, beats

X = random_inputs(SMALL, 20, 100)


def run(checkpoint: Path, data: Path, *arguments: object) -> Result:
    command = ["calibrate", checkpoint, "--data", data, *arguments]
    return CliRunner().invoke(main, [str(word) for word in command])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.savez(tmp_path / "data.npz", x=X)
    return tmp_path / "data.npz"


def test_writes_and_prints_the_table(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    result = run(checkpoint, data, "-o", path)
    assert (result.exit_code, result.stderr) == (0, "")
    net = load_checkpoint(checkpoint)
    table = CalibrationTable.read(path)
    assert table.to_json() == calibrate(net, load_data(data, net.config)).to_json()
    head, names, *rows = result.stdout.splitlines()
    assert head == f"{path}: percentile 99.99, 20 records, 2000 steps"
    assert names.split() == ["tensor", "threshold", "largest", "SQNR", "dB"]
    assert [row.split()[0] for row in rows] == list(table.tensors)
    samples = table.tensors["encoder.input"]
    low, high = (f"{float(end):.4g}" for end in (samples.thresholds.min(), samples.thresholds.max()))
    assert rows[0].split()[1:] == [low, "…", high, f"{samples.largest:.4g}", f"{samples.sqnr_db:.1f}"]


@pytest.mark.slow
def test_methods_and_their_parameters(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    net = load_checkpoint(checkpoint)
    dataset = load_data(data, net.config)
    for options, method in (
        (["--method", "mse"], "mse"),
        (["--method", "minmax"], "minmax"),
        (["--percentile", "99"], Method("percentile", 99.0)),
    ):
        result = run(checkpoint, data, "-o", tmp_path / "t.json", "--force", *options)
        assert result.exit_code == 0, result.output
        table = CalibrationTable.read(tmp_path / "t.json")
        assert table.to_json() == calibrate(net, dataset, method).to_json()


def test_json_is_the_table_with_its_file(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    result = run(checkpoint, data, "-o", tmp_path / "t.json", "--json")
    entry = json.loads(result.stdout)
    assert entry.pop("file") == str(tmp_path / "t.json")
    assert entry == json.loads((tmp_path / "t.json").read_text())


def test_without_torch(checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    assert_refused(run(checkpoint, data, "-o", tmp_path / "t.json"), "torch", "[export]")


def test_renamed_leads(checkpoint: Path, tmp_path: Path) -> None:
    """Are read from the recordings that have them, and refused for one that has not."""
    card = CARD | {"preprocessing": CARD["preprocessing"] | {"channels": ["A", "B"]}}
    (tmp_path / "card.json").write_text(json.dumps(card))
    for name, leads in (("right", ["A", "B"]), ("other", ["MLII", "V"])):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "a.npz", samples=beats(12, 250), leads=leads, rate=250, unit="mV")
    options = ("--card", tmp_path / "card.json", "--json", "--force", "-o", tmp_path / "t.json")
    renamed = ("--lead", "A=MLII", "--lead", "a:B=V")
    found = run(checkpoint, tmp_path / "other", *options, *renamed)
    assert found.exit_code == 0, found.stderr
    right = json.loads(run(checkpoint, tmp_path / "right", *options).stdout)
    assert json.loads(found.stdout)["tensors"] == right["tensors"]
    assert_refused(run(checkpoint, tmp_path / "other", *options), "a.npz: no lead A, B")
    wrong = run(checkpoint, tmp_path / "other", *options, *renamed, "--lead", "a:B=V2")
    assert_refused(wrong, "a.npz: has no lead V2; it has MLII, V")
    wrong = run(checkpoint, tmp_path / "other", *options, *renamed, "--lead", "b:B=V")
    assert_refused(wrong, "--lead b:B=V: no source has that name or that lead")


class TestRefusals:
    def test_an_existing_file(self, checkpoint: Path, data: Path, tmp_path: Path) -> None:
        path = tmp_path / "t.json"
        path.write_text("mine")
        assert_refused(run(checkpoint, data, "-o", path), "exists already", "--force")
        assert path.read_text() == "mine"
        assert run(checkpoint, data, "-o", path, "--force").exit_code == 0

    def test_methods(self, checkpoint: Path, data: Path) -> None:
        assert_refused(run(checkpoint, data, "--method", "kl"), "expected one of minmax")
        assert_refused(run(checkpoint, data, "--percentile", "0"), "expected above 0")
        assert_refused(run(checkpoint, data, "--percentile", "9", "--method", "mse"), "takes no percentile")

    def test_data(self, checkpoint: Path, data: Path, tmp_path: Path) -> None:
        out = ("-o", tmp_path / "t.json")
        assert_refused(run(checkpoint, tmp_path / "none.npz", *out), "no such file")
        whole = data.read_bytes()
        for name, content in (("cut", whole[:500]), ("empty", b"")):
            (tmp_path / name).write_bytes(content)
            assert_refused(run(checkpoint, tmp_path / name, *out), "damaged")
        for x, message in (
            (X[:, :1], "expected (n, 2, time)"),
            (X * np.float32(np.nan), "NaN"),
            (X * 0, "encoder.input is all zeros"),
            (np.sign(X) * np.float32(3e38), "are the data normalized?"),
        ):
            np.savez(tmp_path / "bad.npz", x=x)
            assert_refused(run(checkpoint, tmp_path / "bad.npz", *out), message)
        assert_refused(run(checkpoint, data, *out, "--window", "1"), "options of a folder of recordings")
        assert_refused(run(checkpoint, tmp_path, *out), "a card with preprocessing")
        assert not (tmp_path / "t.json").exists()

    def test_another_task(self, data: Path, tmp_path: Path) -> None:
        tokens = save_published(random_net(variant(encoder="token")), tmp_path / "tokens")
        assert_refused(run(tokens, data), "expected tokens")
        assert_refused(run(tokens, tmp_path), "the network takes tokens")

    def test_a_checkpoint_that_is_none(self, data: Path) -> None:
        assert_refused(run(data, data), "not a PyTorch checkpoint")

    def test_uniform_without_depth(self, data: Path, tmp_path: Path) -> None:
        net = random_net(variant(tree_select="uniform", memory_size=6))
        path = save_published(net, tmp_path / "uniform", "--tree_select=uniform\n--d_mem=6")
        out = ("-o", tmp_path / "t.json")
        assert_refused(run(path, data, *out), "--depth N")
        assert run(path, data, *out, "--depth", 3).exit_code == 0
