"""The examples in C and C++ that classify samples: equal to Python; bad input is an error of one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from multires_edge.export.folding import fold
from multires_edge.export.native_weights import native_weights
from multires_edge.format.card import read_card
from multires_edge.format.pooling import Cumulative
from multires_edge.models import load_checkpoint
from multires_edge.runtime.backends import _native
from tests.conftest import DEMO, ROOT, native_model, random_net, variant
from tests.examples.conftest import Start

ECG = ROOT / "examples" / "ecg.csv"
CONFIG = variant(d_output=5)


def logits(weights: Path, x: NDArray[np.floating]) -> NDArray[np.float64]:
    """What Python's engine gives at each step for normalized x (steps, channels)."""
    model = native_model(weights)
    y = np.empty((len(x), 1, 5), np.float32)
    _native.State(model, 1).run(np.ascontiguousarray(x[:, None], np.float32), y)
    return y[:, 0].astype(np.float64)


def csv(samples: NDArray[np.floating], *names: str) -> str:
    lines = [",".join(names)] * bool(names) + [",".join(f"{v:.9g}" for v in sample) for sample in samples]
    return "\n".join(lines) + "\n"


def numbers(text: str) -> NDArray[np.float64]:
    return np.array([[float(value) for value in line.split(",")] for line in text.splitlines()])


def write_weights(folder: Path, **card: object) -> Path:
    """A small network's weights file, with a card if there is anything to say in it."""
    path, net = folder / "weights.safetensors", random_net(CONFIG)
    read = None
    if card:
        (folder / "card.json").write_text(json.dumps(card))
        read = read_card(folder / "card.json", CONFIG)
    path.write_bytes(native_weights(fold(net), Cumulative(), read))
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights without a card."""
    return write_weights(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def with_card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with the leads a and b."""
    scale = {"mean": [1.5, -2], "std": [3, 0.25]}
    card = {"channels": ["a", "b"], "unit": "V", "sampling_rate": 1, **scale}
    return write_weights(tmp_path_factory.mktemp("card"), output="softmax", preprocessing=card)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration network, as much of a bundle as these programs read."""
    folder = tmp_path_factory.mktemp("demo.bundle")
    net = load_checkpoint(DEMO / "ckpt.pth")
    card = read_card(DEMO / "card.json", net.config)
    (folder / "native").mkdir()
    (folder / "native" / "weights.safetensors").write_bytes(native_weights(fold(net), Cumulative(), card))
    return folder


def test_the_recording_that_ships(classify: Start, demo: Path) -> None:
    text = ECG.read_text()
    x = np.array([[float(value) for value in line.split(",")] for line in text.splitlines()[1:]])
    preprocessing = read_card(DEMO / "card.json").preprocessing
    assert preprocessing is not None
    inputs = preprocessing.inputs(x.T).T
    expected = 1 / (1 + np.exp(-logits(demo / "native" / "weights.safetensors", inputs)))
    result = classify(text, demo)
    assert result.returncode == 0
    assert "note" not in result.stderr
    assert np.abs(numbers(result.stdout) - expected).max() < 1e-5


def test_leads_by_name_in_any_order(classify: Start, with_card: Path) -> None:
    x = np.random.default_rng(0).normal(0, 2, (40, 2)).round(4)
    mean, std = np.array([1.5, -2]), np.array([3, 0.25])
    powers = np.exp(logits(with_card, (x - mean) / std))
    expected = powers / powers.sum(axis=1, keepdims=True)
    for text in (
        csv(x),
        csv(x, "a", "b"),
        csv(x[:, ::-1], "B", "A"),
        csv(x[:, [1, 0, 0]], "b", "c", "a"),
        csv(x, " a", "b ").replace("\n", "\r\n"),
        csv(x)[:-1],
    ):
        result = classify(text, with_card)
        assert result.returncode == 0
        assert np.abs(numbers(result.stdout) - expected).max() < 1e-5


FILTERS: list[dict[str, object]] = [
    {"kind": "butterworth", "corner": 0.25, "order": 1},
    {"kind": "butterworth", "corner": 0.1, "order": 4},
    {"kind": "linear-phase", "corner": 0.5, "delay": 0.3},
]


@pytest.mark.parametrize("length", [300, 20])  # the second is shorter than the filter's delay
@pytest.mark.parametrize("high_pass", FILTERS, ids=str)
def test_the_cards_high_pass(
    classify: Start, tmp_path: Path, high_pass: dict[str, object], length: int
) -> None:
    card = {"channels": ["a", "b"], "unit": "mV", "sampling_rate": 100, "mean": 0.1, "std": 0.25}
    weights = write_weights(tmp_path, output="sigmoid", preprocessing=card | {"high_pass": high_pass})
    x = np.random.default_rng(0).normal([5, -3], 0.3, (length, 2)).round(4)
    preprocessing = read_card(tmp_path / "card.json").preprocessing
    assert preprocessing is not None
    result = classify(csv(x), weights)
    assert result.returncode == 0
    expected = 1 / (1 + np.exp(-logits(weights, preprocessing.inputs(x.T).T)))
    assert np.abs(numbers(result.stdout) - expected).max() < 1e-5


def test_without_a_card_take_normalized_samples_and_print_logits(classify: Start, plain: Path) -> None:
    x = np.random.default_rng(0).standard_normal((40, 2), dtype=np.float32)
    for text in (csv(x), csv(x, "any", "name")):
        result = classify(text, plain)
        assert np.abs(numbers(result.stdout) - logits(plain, x)).max() < 1e-5
        assert [line[:6] for line in result.stderr.splitlines()] == ["note: ", "note: "]


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        ("1,2\n1,2,3\n", 2), ("1,2\n1,2\n1\n", 3), ("1,nan\n", 1), ("1,2\ninf,2\n", 2), ("1,x\n", 1),
        ("1,2\n\n1,2\n", 2), ("1,\n", 1), ("1;2\n", 1), ("1 2\n", 1), ("1,2x\n", 1), ("1,1e39\n", 1),
        ("1,2\n" + 4000 * "1," + "2\n", 2), ("1,2\na,b\n", 2), ("a\n1\n", 1), ("a,b,c\n1,2,3\n", 1),
        ("a,b\n1,2\n1\n", 3), ("\n1,2\n", 1),
    ],
)  # fmt: skip
def test_name_the_line_that_is_wrong(classify: Start, bad: str, line: int, plain: Path) -> None:
    result = classify(bad, plain)
    assert result.returncode == 2
    *notes, error = result.stderr.splitlines()
    assert error.startswith(f"error: line {line}: ")
    assert all(note.startswith("note: ") for note in notes)
    assert len(result.stdout.splitlines()) == line - 1 - bad.startswith("a,b\n")


@pytest.mark.parametrize("header", ["a,c", "a,a,b", "a"])
def test_refuse_headers_that_lack_or_repeat_a_lead(classify: Start, header: str, with_card: Path) -> None:
    result = classify(f"{header}\n1,2,3\n", with_card)
    assert (result.returncode, result.stdout) == (2, "")
    assert "error: line 1: " in result.stderr and "lead" in result.stderr


@pytest.mark.parametrize("empty", ["", "a,b\n", "a,b"])
def test_refuse_a_file_without_samples(classify: Start, empty: str, with_card: Path) -> None:
    result = classify(empty, with_card)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith("error: no samples on standard input")


def test_refuse_what_they_cannot_run(classify: Start, plain: Path, tmp_path: Path) -> None:
    weights = tmp_path / "tokens.safetensors"
    weights.write_bytes(native_weights(fold(random_net(variant(encoder="token"))), Cumulative()))
    for arguments, reason in (
        ((weights,), "tokens"),
        ((tmp_path / "none",), "No such file"),
        ((tmp_path,), "native"),
        ((), "--help"),
        ((plain, "more"), "--help"),
    ):
        result = classify("1,2\n", *arguments)
        assert (result.returncode, result.stdout) == (2, "")
        assert reason in result.stderr and len(result.stderr.splitlines()) == 1


def test_help(classify: Start, decide: Start) -> None:
    for start in (classify, decide):
        for option in ("--help", "-h"):
            result = start("", option)
            assert (result.returncode, result.stderr) == (0, "")
            assert (
                result.stdout.startswith("usage: ") and "The first line may name the leads" in result.stdout
            )
