"""``multires-edge archive``: the decisions on a folder of recordings, as Parquet."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import click

from multires_edge.base.errors import InputError
from multires_edge.cli.command import Command
from multires_edge.cli.options import (
    OUTPUT,
    PRECISION,
    Number,
    backend_option,
    bundle_argument,
    flag,
    json_option,
    lead_options,
    option,
    pick,
)
from multires_edge.cli.paths import FilePath
from multires_edge.cli.terminal import Progress, counted, print_json, say


@click.command(cls=Command)
@bundle_argument
@click.argument("folder", type=FilePath("FOLDER"), metavar="FOLDER")
@option("-o --output", OUTPUT, "The Parquet file; parts are in FILE.parts.", required=True)
@option("--jobs", Number(1, 1024), "Processes of this machine  [default: 1]")
@option("--scheduler", "ADDRESS", "Use the workers of a Dask scheduler, such as tcp://10.0.0.5:8786.")
@option("--piece", "TIME", "Length of the pieces that long recordings are cut into.", default="1h")
@option("--every", "TIME", "Record time between decisions.", default="0.5s")
@option("--pool", "POOL", "As in stream  [default: the bundle's window, or window:10s]")
@option("--gap", "POLICY", "As in stream.", default="hold")
@option("--alarm-after", "TIME", "Decisions are `warming` before so much signal  [default: the window]")
@lead_options
@backend_option
@option("--precision", PRECISION, "fp32, fp16 or int8.", default="fp32")
@flag("--force", "Replace FILE even if it is no file of decisions.")
@json_option
def archive(
    bundle: Path,
    folder: Path,
    output: Path,
    jobs: int | None,
    scheduler: str | None,
    piece: str,
    force: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Decide on a FOLDER of recordings, in one Parquet file.

    Long recordings are cut into pieces, which several processes or machines work on. The file has the same
    bytes as that of one process. A run that was ended continues where it was. A recording that cannot be read
    is left out, with a warning, and the exit code is then 1. Needs the extra archive; see docs/archive.md.
    """
    from multires_edge.runtime.archive.archive import archive as decide_all
    from multires_edge.runtime.archive.workers import Cluster, Processes, ThisProcess, Workers
    from multires_edge.runtime.ecg.settings import StreamOptions, parse_duration

    if jobs is not None and scheduler is not None:
        raise InputError("--jobs and --scheduler exclude each other: give one of them")
    seconds = parse_duration(piece, "piece")
    options = pick(StreamOptions, given)
    if scheduler is not None:
        workers: Workers = Cluster(scheduler)
    else:
        workers = ThisProcess() if jobs in (None, 1) else Processes(jobs or 1)
    with contextlib.closing(workers), Progress() as progress:
        summary = decide_all(
            bundle, folder, output, workers, options,
            piece_seconds=seconds, force=force, progress=progress, say=say,
        )  # fmt: skip
    if as_json:
        print_json({"output": str(output), **vars(summary)})
    else:
        made = f"{counted(summary.decisions, 'decision')} on {counted(summary.recordings, 'recording')}"
        pieces = f"{summary.computed} of {counted(summary.pieces, 'piece')} computed"
        out = f"; {counted(len(summary.left_out), 'recording')} left out" if summary.left_out else ""
        click.echo(f"{output}: {made} ({pieces}){out}")
    if summary.left_out:
        sys.exit(1)
