"""Draw images from an autoregressive bundle: one step per pixel."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import ConfigError, InputError
from multires_edge.format.arrays import check_array
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.images.logistic_mixture import LogisticMixture, mixture_count
from multires_edge.runtime.images.pixels import scale_levels, to_sequence


class PixelSampler:
    """``count`` images that grow by one pixel per call, in lockstep.

    Each image has its own random generator, spawned from ``seed``, so the number of images does not change
    an image. Raises ConfigError for a bundle that cannot draw images, InputError for a bad argument.
    """

    def __init__(
        self,
        bundle: Bundle,
        count: int = 1,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        backend: str = "auto",
        precision: str = "fp32",
    ) -> None:
        self.channels = image_channels(bundle)
        if not isinstance(temperature, float | int) or not (math.isfinite(temperature) and temperature > 0):
            raise InputError(f"temperature is {temperature!r}, expected a number above 0")
        if not isinstance(seed, int | np.integer) or seed < 0:
            raise InputError(f"seed is {seed!r}, expected a whole number of at least 0")
        self._stream = bundle.stream(count, backend=backend, precision=precision)
        seeds = np.random.SeedSequence(int(seed)).spawn(count)
        self._generators = [np.random.default_rng(child) for child in seeds]
        self._uniforms = np.empty((count, 1 + self.channels))
        self._temperature = temperature
        # The network starts from zeros, which no 8-bit level scales to.
        self._last = np.zeros((count, self.channels), np.float32)

    def draw(self) -> NDArray[np.uint8]:
        """The next pixel of every image, (count, channels)."""
        mixture = LogisticMixture.from_params(self._stream.step(self._last), self.channels)
        for generator, numbers in zip(self._generators, self._uniforms, strict=True):
            generator.random(out=numbers)
        levels = mixture.sample(self._uniforms, self._temperature)
        self._last = scale_levels(levels)
        return levels

    def follow(self, pixels: NDArray[np.uint8]) -> None:
        """Continue after the given pixels (count, channels, time), as if they had been drawn."""
        x = np.concatenate([self._last[..., None], scale_levels(pixels)], axis=-1)
        if x.shape[-1] > 1:
            self._stream.run(x[..., :-1])
        self._last = np.ascontiguousarray(x[..., -1])


def sample(
    bundle: Bundle,
    count: int = 1,
    size: tuple[int, int] = (32, 32),
    *,
    seed: int = 0,
    temperature: float = 1.0,
    prime: NDArray[np.uint8] | None = None,
    backend: str = "auto",
    precision: str = "fp32",
    progress: Callable[[str], None] = lambda _: None,
) -> NDArray[np.uint8]:
    """Draw images (count, height, width, channels), uint8, of ``size`` (height, width).

    ``prime`` (count, rows, width, channels) has the first rows of the images. The same seed draws the same
    images. Raises ConfigError for a bundle that cannot draw images, InputError for a bad argument.
    """
    height, width = size
    if height < 1 or width < 1:
        raise InputError(f"size is {height}x{width}, expected at least 1x1")
    sampler = PixelSampler(
        bundle, count, seed=seed, temperature=temperature, backend=backend, precision=precision
    )
    try:
        images = np.zeros((count, height, width, sampler.channels), np.uint8)
    except (MemoryError, ValueError) as error:
        raise InputError(f"{count} images of {height}x{width} do not fit in memory") from error
    given = 0
    if prime is not None:
        check_array(prime, "prime", np.dtype(np.uint8), (count, "rows", width, sampler.channels))
        given = prime.shape[1]
        if given > height:
            raise InputError(f"prime has {given} rows, expected at most {height}, the images' height")
        sampler.follow(to_sequence(prime))
        images[:, :given] = prime
    for row in range(given, height):
        progress(f"row {row + 1} of {height}")
        for column in range(width):
            images[:, row, column] = sampler.draw()
    return images


def image_channels(bundle: Bundle) -> int:
    """Number of channels of the images that a bundle draws. Raises ConfigError if it cannot draw images."""
    model = bundle.manifest.model
    if not model.shifts:
        task = model.task if model.task == "classification" else f"{model.task} without a shift"
        raise ConfigError(f"{bundle.path}: its task is {task}; sampling needs an autoregressive bundle")
    if model.encoder == "token":
        raise ConfigError(f"{bundle.path}: takes tokens, but sampling needs a model of 8-bit pixels")
    channels = model.channels
    mixture_count(model.d_output, channels)
    return channels
