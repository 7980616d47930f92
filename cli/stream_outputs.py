"""What `stream` and `monitor` do with the lines of a session besides their output: sinks and metrics."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

from multires_edge.base.errors import InputError
from multires_edge.cli.terminal import one_line, say

if TYPE_CHECKING:
    from multires_edge.runtime.ecg.exposition import Exposed
    from multires_edge.runtime.ecg.metrics import Metrics
    from multires_edge.runtime.ecg.output import Output
    from multires_edge.runtime.ecg.session import Session

MaybeOutput = TypeVar("MaybeOutput", bound="Output | None")
_TOKEN = "MULTIRES_EDGE_TOKEN"


@contextlib.contextmanager
def with_sinks(
    inner: MaybeOutput, sinks: tuple[str, ...], session: Session, metrics: Metrics | None
) -> Iterator[Output | MaybeOutput]:
    """The output that also sends lines to the addresses ``sinks``, or ``inner`` if there are none.

    Raises MultiresError. After an error, the sinks get no time for the lines that are left.
    """
    if not sinks:
        yield inner
        return
    from multires_edge.runtime.ecg.settings import parse_duration
    from multires_edge.runtime.ecg.sinks.output import SinkOutput
    from multires_edge.runtime.ecg.sinks.protocol import About
    from multires_edge.runtime.ecg.sinks.registry import open_sinks

    streams = session.streams
    card = streams.bundle.manifest.card
    about = About(
        sources={source.signal.name: source.signal.rate for source in session.sources},
        labels=streams.labels,
        interval=parse_duration(streams.options.every, "every"),
        model=(card and card.name) or streams.bundle.path.name,
        program=f"multires-edge {program_version()}",
    )
    output = SinkOutput(
        inner,
        open_sinks(sinks, about),
        say=lambda text: say(one_line(text)),
        waits=not session.paced,
        hurry=lambda: session.stopped,
    )
    if metrics is not None:
        metrics.sinks = output.followers
    try:
        yield output
    finally:
        session.stop()
        output.close()


def metrics_of(session: Session) -> Metrics:
    """The metrics of a session."""
    from multires_edge.runtime.ecg.metrics import Metrics

    return Metrics(session, program=program_version(), bundle=session.streams.bundle.path.name)


@contextlib.contextmanager
def served_metrics(address: str | None, session: Session) -> Iterator[Metrics | None]:
    """Serve the metrics of a session at HOST:PORT or PORT, if an address is given. Raises InputError."""
    metrics = None if address is None else metrics_of(session)
    with served(address, metrics):
        yield metrics


@contextlib.contextmanager
def served(address: str | None, metrics: Exposed | None) -> Iterator[None]:
    """Serve metrics at HOST:PORT or PORT, if an address is given. Raises InputError."""
    if address is None or metrics is None:
        yield
        return
    from multires_edge.runtime.monitor.access import Gate, is_loopback
    from multires_edge.runtime.monitor.metrics_server import MetricsServer

    host, port = _parsed(address)
    token = os.environ.get(_TOKEN)
    if token is None and not is_loopback(host):
        raise InputError(
            f"--metrics {address} can be reached from other machines: set {_TOKEN} to a secret that these "
            "must give, or choose 127.0.0.1"
        )
    with MetricsServer(metrics, Gate(host, token), host, port) as server:
        shown = f"[{host}]" if ":" in host else host
        say(f"note: metrics are at http://{shown}:{server.port}/metrics")
        yield


def _parsed(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise InputError(f"--metrics is {address!r:.60}, expected HOST:PORT or PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def program_version() -> str:
    """The version of this package."""
    from importlib.metadata import version  # takes long to import

    return version("multires-edge")
