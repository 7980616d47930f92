"""Drawing an image pixel by pixel: our stream against the full graph run again for each pixel.

    python -m benchmarks.sampling [CHECKPOINT] [--size 32x32]

One thread, one image, float32, without a checkpoint on a network of the pixel model's size with random
weights. The full graph, in ONNX Runtime, is timed at a few lengths and integrated over the image by the
trapezoid rule: in its best form, on no more than the pixels drawn so far, and in the simplest, on the
whole image for every pixel. Trust the ratios, not the microseconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.networks import PIXEL_MODEL, random_checkpoint
from multires_edge.export import export_bundle
from multires_edge.runtime import Bundle, FullGraph, PixelSampler, open_bundle
from multires_edge.runtime.bench.timing import Budget, calls, time_in_turns
from multires_edge.runtime.images.logistic_mixture import LogisticMixture
from multires_edge.runtime.images.pixels import scale_levels

_BANDS = 8
_IMAGES = 9


def main() -> None:
    """Export, check, time, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("--size", default="32x32", help="height and width of the image")
    arguments = parser.parse_args()
    height, width = map(int, arguments.size.split("x"))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = arguments.checkpoint or random_checkpoint(PIXEL_MODEL, folder)
        bundle = open_bundle(export_bundle(checkpoint, folder / "bundle").path)
        compare(bundle, height * width)


def compare(bundle: Bundle, pixels: int) -> None:
    """Our cost along the image, then the rival's at a few lengths, then both of a whole image."""
    full = bundle.full(backend="onnxruntime", threads=1)
    check(bundle, full, min(pixels, 64))
    ours = {backend: pixel_seconds(bundle, backend, pixels) for backend in ("native", "onnxruntime")}
    lengths = sorted({min(pixels, 1 << k) for k in range(0, 24, 2)} | {pixels // 2, pixels} - {0})
    theirs = full_seconds(full, bundle.manifest.model.channels, lengths)

    print(f"seconds x 1e-6 a pixel, median of {_IMAGES} images; network and draw")
    edges = np.linspace(0, pixels, _BANDS + 1).astype(int)
    for backend, seconds in ours.items():
        bands = [float(np.median(seconds[a:b])) for a, b in pairwise(edges) if b > a]
        print(f"  stream, {backend:12}" + "".join(f"{band * 1e6:9.1f}" for band in bands), end="")
        print(f"   last band to first {bands[-1] / bands[0]:.2f}")
    print(f"  full graph again, on a prefix of {', '.join(map(str, lengths))} pixels")
    print(f"{'':22}" + "".join(f"{second * 1e6:9.1f}" for second in theirs))

    prefixes = float(np.trapezoid(theirs, lengths))
    whole = theirs[-1] * pixels
    best = float(ours["native"].sum())
    print(f"one image of {pixels} pixels{'':22}seconds   to the native stream")
    for what, total in (
        ("full graph on the whole image for each pixel", whole),
        ("full graph on the pixels so far", prefixes),
        ("stream, onnxruntime", float(ours["onnxruntime"].sum())),
        ("stream, native", best),
    ):
        print(f"  {what:44}{total:9.3f}   {total / best:8.1f}")


def check(bundle: Bundle, full: FullGraph, pixels: int) -> None:
    """A rival that is given other parameters is out of the race."""
    sampler = PixelSampler(bundle, backend="native")
    levels = np.stack([sampler.draw() for _ in range(pixels)], axis=-1)
    x = scale_levels(levels)
    by_step = bundle.stream().run(np.concatenate([np.zeros_like(x[..., :1]), x[..., :-1]], axis=-1))
    error = np.abs(full(x) - by_step).max()
    if not error < 1e-4:
        raise SystemExit(f"the full graph gives other parameters than the stream: error {error:.1e}")


def pixel_seconds(bundle: Bundle, backend: str, pixels: int) -> NDArray[np.float64]:
    """Seconds of each pixel of an image, the median over some images."""
    seconds = np.empty((_IMAGES, pixels))
    for image in range(_IMAGES):
        sampler = PixelSampler(bundle, seed=image, backend=backend)
        for pixel in range(pixels):
            started = time.perf_counter()
            sampler.draw()
            seconds[image, pixel] = time.perf_counter() - started
    median: NDArray[np.float64] = np.median(seconds, axis=0)
    return median


def full_seconds(full: FullGraph, channels: int, lengths: list[int]) -> list[float]:
    """Seconds of one pixel behind prefixes of these lengths: the full graph, and the draw from its end."""
    generator = np.random.default_rng(0)

    def draw(x: NDArray[np.float32]) -> None:
        mixture = LogisticMixture.from_params(full(x)[..., -1], channels)
        mixture.sample(generator.random((1, 1 + channels)))

    inputs = {
        str(length): scale_levels(generator.integers(0, 256, (1, channels, length)).astype(np.uint8))
        for length in lengths
    }
    timings = time_in_turns({name: calls(draw, x) for name, x in inputs.items()}, Budget(rounds=5))
    return [timings[name].p50 for name in inputs]


if __name__ == "__main__":
    main()
