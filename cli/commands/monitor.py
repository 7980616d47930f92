"""``multires-edge monitor``: the bedside page."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from multires_edge.base.errors import InputError, require_extra
from multires_edge.cli.command import Command
from multires_edge.cli.options import OUTPUT, Number, option
from multires_edge.cli.stream_options import open_session, session_options, stopped_by_signals
from multires_edge.cli.stream_outputs import metrics_of, with_sinks
from multires_edge.cli.terminal import one_line, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multires_edge.runtime.ecg.output import Output
    from multires_edge.runtime.ecg.session import Session
    from multires_edge.runtime.monitor.hub import Hub
    from multires_edge.runtime.monitor.trace import Trace

_PORT = 8077
_SYNC_EVERY = 10.0  # seconds


@click.command(cls=Command)
@session_options(speed="realtime")
@option("--output", OUTPUT, "Write JSON lines to FILE too.")
@option(
    "--name names", "NAME", "Name of a source on the page; once per source, in their order.", multiple=True
)
@option("--host", "ADDRESS", "Address to listen on.", default="127.0.0.1")
@option("--port", Number(0, 65535), "Port to listen on; 0 takes a free port.", default=_PORT)
@option(
    "--token",
    "TOKEN",
    "Secret that browsers must give; needed unless --host is 127.0.0.1.  [env: MULTIRES_EDGE_TOKEN]",
    envvar="MULTIRES_EDGE_TOKEN",
)
@option(
    "--allow-name allowed", "NAME", "Another host name that browsers may use; may be repeated.", multiple=True
)
def monitor(
    bundle: Path,
    sources: tuple[str, ...],
    output: Path | None,
    names: tuple[str, ...],
    host: str,
    port: int,
    token: str | None,
    allowed: tuple[str, ...],
    **chosen: Any,
) -> None:
    """Show electrodes and decisions on a web page.

    Each SOURCE is a patient. SOURCE and options are those of `multires-edge stream`. Standard output is the
    address of the page. The page stays until Ctrl-C, also after recordings have ended. The exit code is 1 if
    a source breaks off.

    This is not a medical device. See docs/monitor.md.
    """
    require_extra("monitor", "the monitor's page", "websockets")
    from multires_edge.runtime.ecg.checkpoint import Checkpointer
    from multires_edge.runtime.ecg.output_file import check_not_in_use
    from multires_edge.runtime.ecg.service import Service
    from multires_edge.runtime.monitor.access import Gate, is_loopback
    from multires_edge.runtime.monitor.output import PageOutput
    from multires_edge.runtime.monitor.server import MonitorServer

    if output is not None:
        check_not_in_use(output)
    gate = Gate(host, token, allowed)
    if names and len(names) != len(sources):
        raise InputError(f"{len(names)} names for {len(sources)} sources: give one --name for each")

    def show(row: int, first: int, samples: NDArray[np.float64]) -> None:
        for number, millivolts in traces[row].take(first, samples):
            server.call(hub.samples, row, number, millivolts)

    with open_session(bundle, sources, chosen, show) as (session, _):
        hub, traces = _hub(session, names)
        metrics = metrics_of(session)
        with (
            MonitorServer(hub, gate, host, port, output, metrics) as server,
            with_sinks(_opened(output), chosen["sinks"], session, metrics) as inner,
            contextlib.closing(PageOutput(inner, server, hub, session)) as lines,
        ):
            click.echo(f"http://{_shown(host)}:{server.port}/")
            sys.stdout.flush()
            if not is_loopback(host):
                say("note: token and page are not encrypted; docs/monitor.md shows how to use a tunnel")
            service = Service()
            checkpointer = Checkpointer(
                session,
                lines,
                None,
                {},
                seconds=_SYNC_EVERY,
                timing=chosen["timing"],
                say=say,
                alive=service.alive,
                metrics=metrics,
            )
            with stopped_by_signals(session):
                fine = checkpointer.run()
                lines.close()
                for fault in session.faults:
                    say(f"error: {one_line(fault)}")
                while not session.stopped:
                    service.alive()
                    metrics.take([])
                    time.sleep(0.1)
    if not fine:
        sys.exit(1)


def _opened(path: Path | None) -> Output | None:
    from multires_edge.runtime.ecg.output import DeviceOutput, is_device
    from multires_edge.runtime.ecg.output_file import OutputFile

    if path is None:
        return None
    return DeviceOutput(path) if is_device(path) else OutputFile(path, None, say=say)


def _hub(session: Session, names: tuple[str, ...]) -> tuple[Hub, list[Trace]]:
    """The hub of the session, and the trace of each source."""
    from multires_edge.runtime.ecg.gaps import GapPolicy
    from multires_edge.runtime.ecg.settings import parse_duration
    from multires_edge.runtime.ecg.streams import preprocessing_of
    from multires_edge.runtime.monitor.hub import Hub
    from multires_edge.runtime.monitor.patient import Identity
    from multires_edge.runtime.monitor.trace import Trace

    streams = session.streams
    bundle, options = streams.bundle, streams.options
    card, preprocessing = bundle.manifest.card, preprocessing_of(bundle)
    silence = GapPolicy.parse(options.gap).silence
    identities, traces = [], []
    for i, (source, front) in enumerate(zip(session.sources, streams.fronts, strict=True)):
        spec, leads = source.signal, front.leads
        name = names[i] if names else spec.name
        identities.append(Identity(spec.name, name, spec.rate, leads.missing, leads.derived, source.live))
        traces.append(Trace(preprocessing, spec.rate, silence=silence, missing=tuple(leads.missing)))
    about = {
        "bundle": bundle.path.name,
        "model": card and card.name,
        "labels": streams.labels,
        "descriptions": (card and card.label_descriptions) or {},
        "independent": card is not None and card.output == "sigmoid",
        "thresholds": {t.label: t.on for t in options.parsed_thresholds()},
        "every": parse_duration(options.every, "every"),
        "filter": preprocessing.high_pass and str(preprocessing.high_pass),
    }
    return Hub(identities, list(preprocessing.channels), about), traces


def _shown(host: str) -> str:
    """The host in the page's address."""
    import socket

    if host in ("0.0.0.0", "::", ""):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
