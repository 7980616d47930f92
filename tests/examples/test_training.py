"""The examples that train: on a few made-up records, from the data to a bundle that runs."""

from __future__ import annotations

import csv
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from multires_edge.format.high_pass import HighPass
from multires_edge.runtime import open_bundle
from tests.conftest import ROOT

EXAMPLES = ROOT / "examples"
LEADS = ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds of records; the sign of the second label's waves is its class."""
    path = tmp_path_factory.mktemp("records") / "records.npz"
    x, labels = made_up(40)
    names = [lead.replace("AV", "aV") for lead in LEADS]
    np.savez(path, x_uv=x, labels=labels, fold=np.repeat([1, 2], 20), leads=names, classes=["A", "B"])
    return path


def made_up(count: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (count, 2)).astype(np.uint8)
    labels[:2], labels[-2:] = [[0, 1], [1, 0]], [[0, 1], [1, 0]]
    wave = np.sin(2 * np.pi * 1.3 * np.arange(300) / 100) ** 21
    x = 500 * (1.0 - 2 * labels[:, 1, None, None]) * wave + 50 * random.normal(size=(count, 12, 300))
    return x.astype(np.int16), labels


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_train_ecg(records: Path, tmp_path: Path) -> None:
    size = ("--d-model", 8, "--layers", 1)
    printed = run("train_ecg.py", records, "--output", tmp_path / "out", "--epochs", 2, *size)
    assert "20 records for training, 20 for validation (fold 2)" in printed
    assert "epoch 2 of 2: loss" in printed
    assert printed.count("macro AUROC") == 3
    bundle = open_bundle(tmp_path / "out" / "ecg.bundle")
    assert set(bundle.manifest.native) == {"fp32", "fp16", "int8"} and bundle.labels == ["A", "B"]
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert "on 20 records of the folds 1: seed 0, epoch" in card["source"]
    assert (tmp_path / "out" / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_train_lightning(records: Path, tmp_path: Path) -> None:
    assert "proven: " in run("train_lightning.py", records, "--output", tmp_path / "out", "--epochs", 1)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("train_ecg")


@pytest.mark.parametrize(
    "high_pass",
    [
        None,
        HighPass("linear-phase", 0.5, delay=1.0),
        HighPass("butterworth", 0.25, order=1),
        HighPass("butterworth", 0.5, order=4),
    ],
    ids=str,
)
def test_the_filter_is_the_one_that_runs(example: Any, high_pass: HighPass | None) -> None:
    x = 3 + 0.05 * np.random.default_rng(0).normal(size=(2, 3, 1000)).cumsum(-1)
    filtered = example.Filter(high_pass, 100, 1000)(torch.from_numpy(x.astype(np.float32))).numpy()
    expected = x if high_pass is None else high_pass.apply(x, 100)
    assert np.abs(filtered - expected).max() < 1e-5


def test_the_folder_of_ptbxl(example: Any, tmp_path: Path) -> None:
    """Records without a superclass are left out, and leads have their usual names."""
    import wfdb

    ecg_data = importlib.import_module("ecg_data")
    x, _ = made_up(3)
    (tmp_path / "records100").mkdir()
    rows = [
        ("1", "{'NORM': 100.0, 'SR': 0.0}", 1),
        ("2", "{'IMI': 35.0, 'NDT': 100.0}", 10),
        ("3", "{'SR': 0.0}", 1),
    ]
    for (name, _, _), samples in zip(rows, x, strict=True):
        wfdb.wrsamp(
            name,
            100,
            ["mV"] * 12,
            LEADS,
            samples.T / 1000,
            fmt=["16"] * 12,
            write_dir=str(tmp_path / "records100"),
        )
    with (tmp_path / "ptbxl_database.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ecg_id", "scp_codes", "strat_fold", "filename_lr"])
        writer.writerows([name, codes, fold, f"records100/{name}"] for name, codes, fold in rows)
    (tmp_path / "scp_statements.csv").write_text(
        ",diagnostic,diagnostic_class\nNORM,1.0,NORM\nIMI,1.0,MI\nNDT,1.0,STTC\nSR,,\n"
    )
    found = ecg_data.load_records(tmp_path)
    assert (found.fold.tolist(), found.leads[3]) == ([1, 10], "aVR")
    assert found.labels.tolist() == [[0, 0, 0, 1, 0], [0, 0, 1, 0, 1]]
    assert np.abs(found.x_uv - x[:2]).max() <= 1
    assert len(ecg_data.load_records(tmp_path, {10}).labels) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.npz", "missing.npz: no such file, expected an .npz file"),
        ("text.npz", "text.npz: not an .npz file, or damaged"),
        ("other.npz", "other.npz: has no classes, labels, leads, x_uv"),
        ("folder", "folder: has no scp_statements.csv; expected the folder of PTB-XL"),
    ],
)
def test_other_data_is_an_error_of_one_line(example: Any, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "text.npz").write_text("text")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    (tmp_path / "folder").mkdir()
    with pytest.raises(SystemExit, match=message):
        example.load_records(tmp_path / name)
