"""``multires-edge bench``: the speed of a bundle on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from multires_edge.cli.command import Command
from multires_edge.cli.options import PRECISION, WHOLE_SEQUENCE_BACKEND, bundle_argument, json_option
from multires_edge.cli.terminal import Progress, print_json


@click.command(cls=Command)
@bundle_argument
@click.option(
    "--backend",
    "backends",
    type=WHOLE_SEQUENCE_BACKEND,
    multiple=True,
    help="Only this backend; may be repeated.",
)
@click.option(
    "--precision",
    "precisions",
    type=PRECISION,
    multiple=True,
    metavar="NAME",
    help="Only this precision; may be repeated.",
)
@click.option(
    "--threads", type=int, default=1, show_default=True, metavar="N", help="Threads of each backend."
)
@click.option(
    "--steps", type=int, default=1000, show_default=True, metavar="N", help="Length of a whole sequence."
)
@click.option(
    "--streams",
    type=int,
    multiple=True,
    default=(1, 8, 64),
    show_default=True,
    metavar="N",
    help="Streams in one call; may be repeated.",
)
@click.option("--quick", is_flag=True, help="Measure roughly, in one or two seconds.")
@json_option
def bench(
    bundle: Path,
    backends: tuple[str, ...],
    precisions: tuple[str, ...],
    threads: int,
    steps: int,
    streams: tuple[int, ...],
    quick: bool,
    as_json: bool,
) -> None:
    """Measure BUNDLE's speed on this machine.

    Every backend and precision is measured, in turns, on random input: the latency of a step, several streams
    in one call, whole sequences, start, memory, and the ratio of a step's time to the shortest time possible
    on this machine. On a busy machine only the ratios are reliable. docs/benchmarks.md explains the figures;
    with --json they are in seconds and bytes.
    """
    from multires_edge.cli.bench_table import print_benchmark
    from multires_edge.runtime.bench.measure import benchmark
    from multires_edge.runtime.bench.timing import FULL_BUDGET, QUICK_BUDGET
    from multires_edge.runtime.bundle import open_bundle

    with Progress() as progress:
        progress("checking digests")
        entry = benchmark(
            open_bundle(bundle),
            backends=backends,
            precisions=precisions,
            threads=threads,
            steps=steps,
            streams=streams,
            budget=QUICK_BUDGET if quick else FULL_BUDGET,
            progress=progress,
        )
    if as_json:
        print_json(entry)
    else:
        print_benchmark(entry)
