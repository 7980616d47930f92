"""Levels, sequences, grids and PNG files."""

from __future__ import annotations

import importlib.util
import io

import numpy as np
import pytest
from PIL import Image

from multires_edge.base.errors import InputError, MissingExtraError
from multires_edge.runtime.images.pixels import encode_png, grid, levels_of, scale_levels, to_sequence
from tests.conftest import recorded

LEVELS = np.arange(256, dtype=np.uint8)


def test_every_level_survives_scaling() -> None:
    x = scale_levels(LEVELS)
    assert x.dtype == np.float32
    assert (x[0], x[255]) == (-1, 1)
    assert np.array_equal(levels_of(x), LEVELS)


def test_scaling_is_that_of_the_training_code() -> None:
    """The recorded inputs come from it."""
    x = recorded("pixels-autoregressive-k4")[1]["x"]
    assert np.array_equal(scale_levels(levels_of(x)), x)


@pytest.mark.parametrize("value", [-1.1, 1.01, 0.0, 1e30])
def test_values_that_are_no_levels_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="not 8-bit levels"):
        levels_of(np.array([0.2, value], np.float32))


def test_rows_of_pixels_are_time() -> None:
    images = np.arange(2 * 3 * 4 * 3).reshape(2, 3, 4, 3)
    sequence = to_sequence(images)
    assert sequence.shape == (2, 3, 12)
    assert np.array_equal(sequence[1, :, 5], images[1, 1, 1])


@pytest.mark.parametrize(("count", "down", "across"), [(1, 1, 1), (2, 1, 2), (3, 2, 2), (5, 2, 3)])
def test_a_grid_holds_every_image_whole(count: int, down: int, across: int) -> None:
    images = np.random.default_rng(0).integers(0, 255, (count, 3, 5, 1)).astype(np.uint8)
    sheet = grid(images)
    assert sheet.shape == (down * 5 - 2, across * 7 - 2, 1)
    for i, image in enumerate(images):
        top, left = i // across * 5, i % across * 7
        assert np.array_equal(sheet[top : top + 3, left : left + 5], image)
    assert (sheet < 255).sum() == images.size  # all else is white


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_every_level(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 9, channels)).astype(np.uint8)
    read = np.asarray(Image.open(io.BytesIO(encode_png(image))))
    assert np.array_equal(read.reshape(image.shape), image)


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[images\]'"):
        encode_png(np.zeros((2, 2, 3), np.uint8))
