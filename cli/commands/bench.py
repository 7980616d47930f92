"""``multires-edge bench``: how fast a bundle runs on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from multires_edge.cli.backend_option import BackendOption
from multires_edge.cli.terminal import Progress, command_errors, print_json


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--backend", "backends", cls=BackendOption, multiple=True, help="Only this backend; may be repeated."
)
@click.option(
    "--precision", "precisions", multiple=True, metavar="NAME", help="Only this precision; may be repeated."
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
@click.option("--quick", is_flag=True, help="A rough answer, in a second or two.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, in seconds and bytes.")
@command_errors
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
    """Time BUNDLE on this machine, by every backend and precision that it can run.

    Latency of a step, streams in one call, whole sequences, start, memory, and how far a step is from
    the least time that this machine could take for it. All are measured in turns on random input; on a
    busy machine trust the ratios. docs/benchmarks.md says what each figure is.
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
