"""8-bit images: conversion to the network's sequences of pixels, and to PNG files."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import InputError, require_extra

_GAP = 2  # pixels between the images of a grid


def scale_levels(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert levels 0 ... 255 to the network's inputs in [-1, 1], of the same shape."""
    scaled: NDArray[np.float32] = (levels / 127.5 - 1).astype(np.float32)
    return scaled


def levels_of(x: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Convert inputs in [-1, 1] back to levels. Raises InputError for other values than 8-bit levels."""
    levels: NDArray[np.float64] = np.rint((x.astype(np.float64) + 1) * 127.5)
    if levels.min() < 0 or levels.max() > 255 or np.abs(levels / 127.5 - 1 - x).max() > 1e-5:
        raise InputError("x has values that are not 8-bit levels, expected level / 127.5 - 1")
    return levels.astype(np.uint8)


def to_sequence(images: NDArray[Any]) -> NDArray[Any]:
    """Images (n, height, width, channels) to sequences (n, channels, time), row by row."""
    n, height, width, channels = images.shape
    return np.ascontiguousarray(np.moveaxis(images.reshape(n, height * width, channels), 1, 2))


def grid(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Arrange n images on one white image (height, width, channels), row by row, nearly square."""
    n, height, width, channels = images.shape
    across = math.ceil(math.sqrt(n))
    down = math.ceil(n / across)
    sheet = np.full((down * (height + _GAP) - _GAP, across * (width + _GAP) - _GAP, channels), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = i // across * (height + _GAP), i % across * (width + _GAP)
        sheet[top : top + height, left : left + width] = image
    return sheet


def require_png() -> None:
    """Raise MissingExtraError without pillow, which writes PNG files."""
    require_extra("images", "writing a PNG file", "PIL")


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Encode an image (height, width, 1 or 3) as PNG. Raises MissingExtraError without pillow."""
    require_png()
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, format="PNG")
    return file.getvalue()
