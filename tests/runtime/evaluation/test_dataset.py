"""Images and class names in data files; the rest is tested through a checkpoint's configuration."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.base.errors import DataError
from multires_edge.runtime.evaluation.dataset import load_images
from multires_edge.runtime.evaluation.loading import load_data
from tests.conftest import SMALL, variant

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 2, 5, 3)).astype(np.uint8)
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
    x = np.zeros((4, 2, 9), np.float32)
    path = save(tmp_path, x=x, labels=np.arange(4), lengths=np.arange(1, 5), classes=["a", "b"])
    data = load_data(path, SMALL)
    assert data.classes == ["a", "b"]
    first = data.first(3)
    assert len(first) == 3
    assert first.labels is not None and first.labels.tolist() == [0, 1, 2]
    assert first.lengths is not None and first.lengths.tolist() == [1, 2, 3]
    assert len(data.first(99)) == 4


def test_labels_of_another_number_of_records(tmp_path: Path) -> None:
    x = np.zeros((4, 2, 9), np.float32)
    for labels in (np.arange(3), np.array(1)):
        with pytest.raises(DataError, match="expected 4 records"):
            load_data(save(tmp_path, x=x, labels=labels), SMALL)


def test_what_is_no_array_counts_as_absent(tmp_path: Path) -> None:
    path = save(tmp_path, x=np.zeros((4, 2, 9), np.float32))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels", "a stray file")
    assert load_data(path, SMALL).labels is None
