"""``multires-edge serve``: one of the workers that decide on the patients of a NATS server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Any

import click

from multires_edge.base.errors import require_extra
from multires_edge.base.signals import ENDING
from multires_edge.cli.command import Command
from multires_edge.cli.options import AT_LEAST_1, bundle_argument, lead_options, option, pick
from multires_edge.cli.stream_options import decision_options, engine_options, spare_imports
from multires_edge.cli.stream_outputs import program_version, served
from multires_edge.cli.terminal import one_line, say


@click.command(cls=Command)
@bundle_argument
@option(
    "--nats",
    "ADDRESS",
    "The server: nats://HOST:PORT or tls://HOST:PORT, with #creds=FILE or other secrets (docs/fleet.md).",
    default="nats://127.0.0.1:4222",
)
@option("--samples", "NAME", "Stream with the samples; devices publish to NAME.PATIENT.", default="ecg")
@option("--decisions", "NAME", "Stream with the decisions, which are on NAME.PATIENT.", default="decisions")
@option("--partitions", AT_LEAST_1, "Parts of a new stream of samples, shared by the workers.", default=32)
@option("--keep", "TIME", "How long a new stream keeps samples.", default="10min")
@option("--replicas", AT_LEAST_1, "Copies of each message in new streams of a cluster.", default=1)
@option("--lease", "TIME", "Time after which the patients of a worker that hangs go to others.", default="3s")
@option("--isa", "NAME", "Instruction set of the native engine, such as avx2  [default: the best of the CPU]")
@option(
    "--metrics",
    "HOST:PORT",
    "Serve /metrics for Prometheus and /healthz there; PORT alone is on 127.0.0.1.",
)
@decision_options
@lead_options
@engine_options
def serve(
    bundle: Path,
    nats: str,
    samples: str,
    decisions: str,
    partitions: int,
    keep: str,
    replicas: int,
    lease: str,
    isa: str | None,
    metrics: str | None,
    **chosen: Any,
) -> None:
    """Decide on the patients of a NATS server, with other workers.

    Workers share the patients. If one ends, the others go on with its patients from the samples that the
    server keeps: no decision is lost or made twice. Run one worker per core, until a signal ends it. See
    docs/fleet.md.
    """
    require_extra("fleet", "the connection to a NATS server", "nats")
    from multires_edge.runtime.bundle import open_bundle
    from multires_edge.runtime.ecg.service import Service
    from multires_edge.runtime.ecg.settings import StreamOptions, parse_duration
    from multires_edge.runtime.fleet.broker import Wanted, options_of
    from multires_edge.runtime.fleet.fleet_metrics import FleetMetrics
    from multires_edge.runtime.fleet.model import Model, check_isa, pinned_isa
    from multires_edge.runtime.fleet.names import Names
    from multires_edge.runtime.fleet.worker import Worker

    click.get_current_context().with_resource(pinned_isa(isa))
    names, connection = Names(samples, decisions), options_of(nats)
    model = Model(open_bundle(bundle, key=chosen["key"]), pick(StreamOptions, chosen))
    check_isa(model, isa)
    wanted = Wanted(
        model.settings(), model.replay_seconds, partitions, parse_duration(keep, "keep"), replicas
    )
    counts = FleetMetrics(
        program=program_version(), bundle=bundle.name, made=model.provenance, labels=model.bundle.class_names
    )
    worker = Worker(
        connection, names, model, wanted, counts, lambda text: say(one_line(text)),
        alive=Service().alive, lease=parse_duration(lease, "lease"),
    )  # fmt: skip
    with served(metrics, counts):
        spare_imports()
        asyncio.run(_run(worker))


async def _run(worker: Any) -> None:
    """Run until SIGINT, SIGTERM or SIGHUP; a second signal ends the process at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def end(number: int) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, end, number)
    await worker.run(stop)
