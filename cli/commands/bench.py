"""``multires-edge bench``: the speed of a bundle on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from multires_edge.cli.command import Command
from multires_edge.cli.options import (
    AT_LEAST_1,
    NAMED_BACKEND,
    PRECISION,
    bundle_argument,
    flag,
    json_option,
    option,
)
from multires_edge.cli.terminal import Progress, print_json


@click.command(cls=Command)
@bundle_argument
@option("--backend backends", NAMED_BACKEND, "Only this backend; may be repeated.", multiple=True)
@option("--precision precisions", PRECISION, "Only this precision; may be repeated.", multiple=True)
@option("--threads", AT_LEAST_1, "Threads of each backend.", default=1)
@option("--steps", AT_LEAST_1, "Length of a whole sequence.", default=1000)
@option("--streams", AT_LEAST_1, "Streams in one call; may be repeated.", multiple=True, default=(1, 8, 64))
@flag("--quick", "Measure roughly, in one or two seconds.")
@json_option
def bench(bundle: Path, quick: bool, as_json: bool, **options: Any) -> None:
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
        budget = QUICK_BUDGET if quick else FULL_BUDGET
        entry = benchmark(open_bundle(bundle), **options, budget=budget, progress=progress)
    if as_json:
        print_json(entry)
    else:
        print_benchmark(entry)
