"""``multires-edge sample``: draw images from an autoregressive bundle."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from multires_edge.base.errors import InputError
from multires_edge.cli.command import Command
from multires_edge.cli.options import (
    AT_LEAST_1,
    FILE,
    OUTPUT,
    Number,
    backend_option,
    bundle_argument,
    flag,
    json_option,
    option,
)
from multires_edge.cli.terminal import Progress, counted, print_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DEFAULT_SIZE = "32x32"


@click.command(cls=Command)
@bundle_argument
@option("-o --output", OUTPUT, "PNG to write, all images in a grid.")
@option("--npz", OUTPUT, "The images as an array, x_u8.")
@flag("--force", "Replace existing files.")
@option("--count", AT_LEAST_1, "Images to draw.", default=1)
@option("--size", "HxW", f"Height and width in pixels  [default: {_DEFAULT_SIZE}]")
@option("--seed", Number(0), "The same seed draws the same images.", default=0)
@option("--temperature", float, "Below 1, likely pixels become likelier.", default=1.0, metavar="T")
@option("--prime", FILE, "Complete the first images of this .npz (x_u8), at their size.")
@option("--prime-rows", AT_LEAST_1, "Rows of them to keep  [default: the upper half]")
@backend_option
@json_option
def sample(
    bundle: Path,
    output: Path | None,
    npz: Path | None,
    force: bool,
    count: int,
    size: str | None,
    seed: int,
    prime: Path | None,
    prime_rows: int | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Draw images from an autoregressive BUNDLE.

    Each pixel costs one step. An image depends on the seed and on its number, not on how many images are
    drawn with it.
    """
    if output is None and npz is None:
        raise InputError("no output is given: give -o FILE for a PNG, --npz FILE for the array, or both")
    from multires_edge.base.files import check_file, write_file
    from multires_edge.format.arrays import npz_bytes
    from multires_edge.runtime.bundle import open_bundle
    from multires_edge.runtime.images import sampling
    from multires_edge.runtime.images.pixels import encode_png, grid, require_png

    for path in (output, npz):
        if path is not None:
            check_file(path, force=force)
    if output is not None:
        require_png()
    with Progress() as progress:
        progress("reading")
        opened = open_bundle(bundle)
        channels = sampling.image_channels(opened)
        given = None
        if prime is not None:
            height, width, given = _primed(prime, channels, count, size, prime_rows)
        elif prime_rows is not None:
            raise InputError("--prime-rows belongs to --prime FILE, which is missing")
        else:
            height, width = _parse_size(size or _DEFAULT_SIZE)
        images = sampling.sample(
            opened, count, (height, width), seed=seed, prime=given, progress=progress, **how
        )
    if output is not None:
        write_file(output, encode_png(grid(images)), force=force)
    if npz is not None:
        write_file(npz, npz_bytes(x_u8=images), force=force)
    files = [str(path) for path in (output, npz) if path]
    if as_json:
        print_json(
            {"bundle": str(bundle), "files": files, "count": count, "size": [height, width], "seed": seed}
        )
        return
    click.echo(f"{' and '.join(files)}: {counted(count, 'image')} of {height}x{width}, seed {seed}")


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text, re.ASCII)
    if match is None:
        raise InputError(f"--size is {text!r}, expected height and width, such as {_DEFAULT_SIZE}")
    return int(match[1]), int(match[2])


def _primed(
    path: Path, channels: int, count: int, size: str | None, rows: int | None
) -> tuple[int, int, NDArray[np.uint8]]:
    """Height and width of the images to complete, and the rows that are kept of each."""
    from multires_edge.runtime.evaluation.dataset import load_images

    images = load_images(path, channels)
    height, width = images.shape[1:3]
    if size is not None and _parse_size(size) != (height, width):
        raise InputError(f"--size is {size}, but the images of {path} are {height}x{width}; leave it out")
    if count > len(images):
        raise InputError(f"--count is {count}, but {path} holds {len(images)} images")
    rows = max(1, height // 2) if rows is None else rows
    if rows > height:
        raise InputError(f"--prime-rows is {rows}, but the images of {path} have {height} rows")
    return height, width, images[:count, :rows]
