"""Data files, good and bad."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.base.errors import DataError
from multires_edge.format.card import Card, Preprocessing, read_card
from multires_edge.format.config import ModelConfig
from multires_edge.runtime.evaluation.dataset import load_images
from multires_edge.runtime.evaluation.recordings import load_data
from tests.conftest import DEMO, SMALL, variant

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 2, 5, 3)).astype(np.uint8)
X = np.zeros((4, 2, 9), np.float32)
TOKENS = np.zeros((4, 9), np.int64)
CARD = Card(preprocessing=Preprocessing(100, ("I", "II"), "mV", 0.0, 0.5))
MODEL = variant(task="autoregressive", d_input=3, d_output=100)


def save(tmp_path: Path, **arrays: Any) -> Path:
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


def test_images_become_sequences(tmp_path: Path) -> None:
    data = load_data(save(tmp_path, x_u8=IMAGES), MODEL)
    assert data.inputs.shape == (4, 3, 10) and data.inputs[:].dtype == np.float32
    assert np.array_equal(data.inputs[:][2, :, 7], (IMAGES[2, 1, 2] / 127.5 - 1).astype(np.float32))
    assert np.array_equal(load_images(tmp_path / "data.npz", 3), IMAGES)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[..., :1], "expected .n, height, width, 3."),
        (IMAGES.astype(np.float32), "dtype float32, expected uint8"),
        (IMAGES.reshape(4, 10, 3), "expected .n, height, width, 3."),
        (IMAGES[:0], "shape"),
    ],
)
def test_bad_images(tmp_path: Path, images: np.ndarray, message: str) -> None:
    path = save(tmp_path, x_u8=images)
    with pytest.raises(DataError, match=message):
        load_data(path, MODEL)
    with pytest.raises(DataError, match=message):
        load_images(path, 3)


def test_images_are_not_for_classifiers(tmp_path: Path) -> None:
    """How a classifier's images were normalized in training is not known."""
    with pytest.raises(DataError, match="x_u8 needs an autoregressive network"):
        load_data(save(tmp_path, x_u8=IMAGES), variant(d_input=3))


def test_no_images_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has \['y'\], expected x_u8"):
        load_images(save(tmp_path, y=IMAGES), 3)


def test_the_first_records(tmp_path: Path) -> None:
    path = save(tmp_path, x=X, labels=np.arange(4), lengths=np.arange(1, 5), classes=["a", "b"])
    data = load_data(path, SMALL)
    assert data.classes == ["a", "b"]
    first = data.first(3)
    assert len(first) == 3
    assert first.labels is not None and first.labels.tolist() == [0, 1, 2]
    assert first.lengths is not None and first.lengths.tolist() == [1, 2, 3]
    assert len(data.first(99)) == 4


def test_labels_of_another_number_of_records(tmp_path: Path) -> None:
    for labels in (np.arange(3), np.array(1)):
        with pytest.raises(DataError, match="expected 4 records"):
            load_data(save(tmp_path, x=X, labels=labels), SMALL)


def test_what_is_no_array_counts_as_absent(tmp_path: Path) -> None:
    path = save(tmp_path, x=X)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels", "a stray file")
    assert load_data(path, SMALL).labels is None


def test_normalized_samples(tmp_path: Path) -> None:
    data = load_data(save(tmp_path, x=X, labels=np.arange(4)), SMALL)
    assert len(data) == 4
    assert data.lengths is None
    assert data.labels is not None


def test_tokens_with_lengths(tmp_path: Path) -> None:
    lengths = np.array([1, 2, 3, 9])
    data = load_data(save(tmp_path, tokens=TOKENS, lengths=lengths), variant(encoder="token"))
    assert np.array_equal(data.lengths if data.lengths is not None else [], lengths)


def test_microvolt_is_normalized_with_the_card(tmp_path: Path) -> None:
    microvolt = np.full((4, 2, 9), 1500, np.int16)
    data = load_data(save(tmp_path, x_uv=microvolt, leads=["I", "II"]), SMALL, CARD)
    assert data.inputs[:].dtype == np.float32
    assert np.allclose(data.inputs[:], 3.0)


def test_the_demonstration_records() -> None:
    card = read_card(DEMO / "card.json")
    config = variant(d_input=12, d_output=5)
    data = load_data(DEMO / "records.npz", config, card)
    assert data.inputs.shape == (6, 12, 1000)
    assert 0.1 < data.inputs[:].std() < 10


@pytest.mark.parametrize(
    ("config", "arrays", "message"),
    [
        (SMALL, {"y": X}, "expected x"),
        (SMALL, {"x": X.astype(np.float64)}, "dtype float64, expected float32"),
        (SMALL, {"x": X[:, :1]}, "shape"),
        (SMALL, {"x": X[:0]}, "shape"),
        (SMALL, {"x": X + np.float32(np.nan)}, "NaN"),
        (SMALL, {"x_uv": X.astype(np.int16), "leads": ["II", "I"]}, "leads are II, I, the card has I, II"),
        (SMALL, {"x_uv": X.astype(np.int16), "sampling_rate": 500}, "sampling_rate is 500 Hz, the card has"),
        (SMALL, {"x": X, "lengths": np.array([0, 1, 1, 1])}, "lengths run from 0"),
        (SMALL, {"x": X, "lengths": np.array([10, 1, 1, 1])}, "to 10, expected 1 to 9"),
        (variant(encoder="token"), {"x": X}, "expected tokens"),
        (variant(encoder="token"), {"tokens": TOKENS - 1}, "token -1"),
        (variant(encoder="token"), {"tokens": TOKENS + 11}, "token 11, expected 0 to 10"),
    ],
)  # fmt: skip
def test_bad(tmp_path: Path, config: ModelConfig, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(save(tmp_path, **arrays), config, CARD)


def test_microvolt_without_a_card(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a card with preprocessing"):
        load_data(save(tmp_path, x_uv=X.astype(np.int16)), SMALL)


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_data(tmp_path / "none.npz", SMALL)
    whole = save(tmp_path, x=X).read_bytes()
    for content in (b"", b"not a zip", whole[: len(whole) // 2]):
        (tmp_path / "cut.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"not an \.npz file, or damaged"):
            load_data(tmp_path / "cut.npz", SMALL)
