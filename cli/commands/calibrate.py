"""``multires-edge calibrate``: the ranges that int8 graphs need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from multires_edge.base.errors import DataError, require_extra
from multires_edge.cli.command import Command
from multires_edge.cli.options import (
    FILE,
    OUTPUT,
    checkpoint_argument,
    flag,
    json_option,
    lead_options,
    method_option,
    option,
    tree_options,
    window_option,
)
from multires_edge.cli.paths import FilePath
from multires_edge.cli.terminal import Progress, counted, print_json, print_table

if TYPE_CHECKING:
    from multires_edge.calibration.table import CalibrationTable


@click.command(cls=Command)
@checkpoint_argument
@option(
    "--data",
    FilePath("PATH"),
    "An .npz (x, x_uv, x_u8 or tokens), or a folder of recordings (needs --card).",
    required=True,
)
@option("-o --output", OUTPUT, "Table to write.", default="calibration.json")
@flag("--force", "Replace an existing table.")
@method_option("--method")
@option("--percentile", float, "For --method percentile  [default: 99.99]", metavar="P")
@option("--card", FILE, "Card in JSON; recordings and x_uv need its preprocessing.")
@window_option
@lead_options
@tree_options
@json_option
def calibrate(
    checkpoint: Path,
    data: Path,
    output: Path,
    force: bool,
    method: str,
    percentile: float | None,
    card: Path | None,
    window: float | None,
    allow_missing: bool,
    rename: dict[str, str],
    as_json: bool,
    **tree: Any,
) -> None:
    """Measure the ranges of CHECKPOINT's tensors, for int8 graphs.

    Prints for each tensor the smallest and the largest threshold of its channels, the largest magnitude
    seen, and the expected ratio of signal to quantization noise.
    """
    require_extra("export", "calibrating", "torch")
    from multires_edge.base.files import check_file
    from multires_edge.calibration.measure import calibrate as measure
    from multires_edge.calibration.ranges import Method
    from multires_edge.format.card import read_card
    from multires_edge.models.containers import check_file as check_checkpoint
    from multires_edge.models.inference import Overrides
    from multires_edge.models.loading import load_checkpoint
    from multires_edge.runtime.evaluation.recordings import load_data

    check_checkpoint(checkpoint)
    chosen = Method.of(method, percentile)
    check_file(output, force=force)
    if card is not None:
        read_card(card)
    if not data.exists():
        raise DataError(f"{data}: no such file or folder")
    with Progress() as progress:
        progress("reading")
        net = load_checkpoint(checkpoint, Overrides(**tree))
        read = None if card is None else read_card(card, net.config)
        dataset = load_data(data, net.config, read, window=window, allow_missing=allow_missing, rename=rename)
        table = measure(net, dataset, chosen, progress=progress)
        table.write(output, force=force)
    if as_json:
        print_json({"file": str(output), **table.to_json()})
    else:
        _print(output, table)


def _print(output: Path, table: CalibrationTable) -> None:
    records = counted(table.data.records, "record")
    click.echo(f"{output}: {table.method}, {records}, {table.data.steps} steps")
    rows = [("tensor", "threshold", "largest", "SQNR dB")]
    rows += [
        (
            name,
            " … ".join(f"{limit:.4g}" for limit in tensor.limits),
            f"{tensor.largest:.4g}",
            f"{tensor.sqnr_db:.1f}",
        )
        for name, tensor in table.tensors.items()
    ]
    print_table(rows, frozenset([1, 2, 3]))
