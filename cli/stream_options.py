"""The options of a session, which `stream` and `monitor` share, and opening it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from multires_edge.base.errors import InputError
from multires_edge.base.signals import ENDING
from multires_edge.cli.options import (
    AT_LEAST_1,
    PRECISION,
    Function,
    Names,
    backend_option,
    bundle_argument,
    flag,
    key_option,
    lead_options,
    option,
    pick,
    together,
)
from multires_edge.cli.terminal import say

if TYPE_CHECKING:
    from multires_edge.runtime.ecg.session import Session
    from multires_edge.runtime.ecg.sources.protocol import Source
    from multires_edge.runtime.ecg.streams import SampleObserver

# How long a thread that reads lines may keep the interpreter's lock while a decision waits for it.
_SWITCH_SECONDS = 0.0005
# mallopt(3): M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, and bytes.
_KEPT_BYTES = {-1: 8 << 20, -3: 4 << 20}


# How samples become decisions: the fields of StreamOptions without backend and precision.
decision_options = together(
    option("--every", "TIME", "Record time between decisions.", default="0.5s"),
    option(
        "--pool",
        "POOL",
        "Pooling: cumulative, window:10s, reset:10s (start over every 10 s) or bundle  [default: "
        "the bundle's window, or window:10s]",
    ),
    option(
        "--gap",
        "POLICY",
        "Replace missing samples: hold, zero, or restart[:1s] to start over after a silence.",
        default="hold",
    ),
    option(
        "--threshold thresholds",
        "LABEL=ON[:OFF]",
        "Report the onset from ON upwards and the offset below OFF; may be repeated.",
        multiple=True,
    ),
    option(
        "--alarm-after",
        "TIME",
        "Report no onset before so much signal, and say `warming` until then  [default: the window]",
    ),
    option(
        "--alarm-decisions",
        AT_LEAST_1,
        "Report an onset after N decisions in a row.",
        default=1,
    ),
)
engine_options = together(
    backend_option, option("--precision", PRECISION, "fp32, fp16 or int8.", default="fp32"), key_option
)


def session_options(speed: str) -> Callable[[Function], Function]:
    """Add BUNDLE, SOURCE... and the options of a session; ``speed`` is the default of --speed.

    The options are fields of StreamOptions and Format, ``speed``, ``timing`` and
    ``sinks``.
    """
    return together(
        bundle_argument,
        click.argument("sources", metavar="SOURCE...", nargs=-1, required=True),
        decision_options,
        option("--speed", click.Choice(["realtime", "max"]), "Speed of recordings.", default=speed),
        lead_options,
        option("--rate", float, "Rate of sources that do not name it.", metavar="HZ"),
        option("--unit", "UNIT", "Unit of sources that do not name it: uV, mV or V."),
        option("--leads", Names("lead"), "Leads of sources that do not name them, separated by commas."),
        option("--reconnect", "TIME", "Time that a device at tcp:// may be away before it is lost."),
        flag("--follow", "Wait for further lines of .csv and .jsonl files, until a signal ends the run."),
        click.option(
            "--timing/--no-timing",
            default=True,
            show_default=False,
            help="Report age and latency of decisions of live sources.",
        ),
        option(
            "--sink sinks",
            "ADDRESS",
            "Send lines to mqtt://HOST/TOPIC, https://HOST/PATH, fhir+https://HOST/PATH or wfdb:FOLDER too "
            "(docs/outputs.md); may be repeated.",
            multiple=True,
        ),
        engine_options,
    )


@contextlib.contextmanager
def open_session(
    bundle: Path, sources: tuple[str, ...], chosen: dict[str, Any], on_samples: SampleObserver | None = None
) -> Iterator[tuple[Session, dict[str, Any]]]:
    """Open a bundle and its sources; the sources are closed at the end. Raises MultiresError.

    ``chosen`` are the values of :func:`session_options`. The result is a session that is ready to run, and
    the options that a saved state must have been made with.
    """
    from multires_edge.runtime.bundle import open_bundle
    from multires_edge.runtime.ecg.identity import digest_of_card, digest_of_weights
    from multires_edge.runtime.ecg.leads import check_applied
    from multires_edge.runtime.ecg.session import Session
    from multires_edge.runtime.ecg.settings import StreamOptions, parse_duration
    from multires_edge.runtime.ecg.sources.opening import open_source
    from multires_edge.runtime.ecg.sources.protocol import Format
    from multires_edge.runtime.ecg.streams import EcgStreams, preprocessing_of

    if len(set(sources)) < len(sources):
        raise InputError(f"a source is given twice: {', '.join(sources)}")
    options = pick(StreamOptions, chosen)
    away = chosen["reconnect"]
    given = pick(Format, chosen | {"reconnect": parse_duration(away, "reconnect") if away else 0.0})
    opened = open_bundle(bundle, key=chosen["key"])
    given = replace(given, wanted=(*preprocessing_of(opened).channels, *options.rename.values()))
    with contextlib.ExitStack() as stack:
        inputs: list[Source] = []
        for spec in sources:
            inputs.append(open_source(spec, given))
            stack.callback(inputs[-1].close)
            _say_all(inputs[-1].signal.name, inputs[-1].notes)
        names = [source.signal.name for source in inputs]
        if len(set(names)) < len(names):  # such as rec and rec.hea
            raise InputError(f"a source is given twice: {', '.join(names)}")
        lockstep = not any(source.waits for source in inputs)
        if any(source.live for source in inputs):
            sys.setswitchinterval(_SWITCH_SECONDS)
        specs = [source.signal for source in inputs]
        streams = EcgStreams(opened, specs, options, lockstep=lockstep, on_samples=on_samples)
        check_applied(options.rename, [front.leads for front in streams.fronts])
        for each, front in zip(specs, streams.fronts, strict=True):
            _say_all(each.name, front.leads.notes)
        run_options = asdict(options) | {
            "card": digest_of_card(opened),
            "weights": digest_of_weights(opened, options.precision),
            "timing": chosen["timing"],
            "speed": chosen["speed"],
        }
        session = Session(streams, inputs, realtime=chosen["speed"] == "realtime")
        spare_imports()
        _keep_freed_memory()
        yield session, run_options


def spare_imports() -> None:
    """Let searches for garbage pass over what was imported and stays to the end, which saves tens of ms."""
    gc.collect()
    gc.freeze()


def _keep_freed_memory() -> None:
    """Let glibc keep a few MB of freed memory. Otherwise each block of samples asks the kernel for new pages.

    Other C libraries are left as they are.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            for parameter, size in _KEPT_BYTES.items():
                libc.mallopt(parameter, size)


def _say_all(source: str, notes: Iterable[str]) -> None:
    for note in notes:
        say(f"note: {source}: {note}")


@contextlib.contextmanager
def stopped_by_signals(session: Session) -> Iterator[None]:
    """The first SIGINT, SIGTERM or SIGHUP ends the session after its current work, a second one at once.

    A signal that the parent ignores, such as SIGHUP under nohup, stays ignored.
    """

    def stop(number: int, _: Any) -> None:
        session.stop()
        signal.signal(number, signal.SIG_DFL)

    before = {
        number: signal.signal(number, stop)
        for number in ENDING
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
