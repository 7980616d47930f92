"""``multires-edge stream``: from electrodes to decisions."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from multires_edge.runtime.errors import InputError
from multires_edge.runtime.terminal import command_errors, one_line

if TYPE_CHECKING:
    from multires_edge.runtime.ecg.session import Session


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "--every", default="0.5s", show_default=True, metavar="TIME", help="Record time between decisions."
)
@click.option(
    "--pool",
    metavar="POOL",
    help="cumulative, window:10s, reset:10s to start over after that, or bundle  [default: the bundle's "
    "window, or window:10s]",
)
@click.option(
    "--gap",
    default="hold",
    show_default=True,
    metavar="POLICY",
    help="What a missing sample becomes: hold, zero, or restart[:1s] to start over after a longer silence.",
)
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="LABEL=ON[:OFF]",
    help="Report onset from ON upwards, offset below OFF; may be repeated.",
)
@click.option(
    "--speed",
    type=click.Choice(["realtime", "max"]),
    default="max",
    show_default=True,
    help="How recordings are played.",
)
@click.option("--allow-missing", is_flag=True, help="Feed zeros for leads that a source does not have.")
@click.option(
    "--lead",
    "renamed",
    multiple=True,
    metavar="CHANNEL=LEAD",
    help="The source's LEAD stands for the card's CHANNEL; may be repeated.",
)
@click.option("--rate", type=float, metavar="HZ", help="Rate of sources that do not say it.")
@click.option("--unit", metavar="UNIT", help="Unit of sources that do not say it: uV, mV or V.")
@click.option("--leads", metavar="NAMES", help="Leads, with commas, of sources that do not say them.")
@click.option(
    "--reconnect", metavar="TIME", help="How long a device at tcp:// may be away before it counts as lost."
)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write lines to FILE.")
@click.option(
    "--state-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep the state in FILE, and go on from it.",
)
@click.option(
    "--state-every", default="10s", show_default=True, metavar="TIME", help="Clock time between states."
)
@click.option("--timing/--no-timing", default=True, help="Age and latency of decisions, where a clock runs.")
@click.option("--backend", default="auto", show_default=True, metavar="NAME", help="native or onnxruntime.")
@click.option("--precision", default="fp32", show_default=True, metavar="NAME", help="fp32, fp16 or int8.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines, which is what there is anyway.")
@command_errors
def stream(
    bundle: Path,
    sources: tuple[str, ...],
    every: str,
    pool: str | None,
    gap: str,
    thresholds: tuple[str, ...],
    speed: str,
    allow_missing: bool,
    renamed: tuple[str, ...],
    rate: float | None,
    unit: str | None,
    leads: str | None,
    reconnect: str | None,
    output: Path | None,
    state_file: Path | None,
    state_every: str,
    timing: bool,
    backend: str,
    precision: str,
    as_json: bool,
) -> None:
    """Stream electrodes through BUNDLE: a line of JSON for each decision and event.

    A SOURCE is a WFDB record, an .edf, .npz, .csv or .jsonl file, - for lines on standard input, or
    tcp://HOST:PORT for lines from a device; several run at once. Exit code 1 when a source broke off.

    With --state-file and --output, a run that was killed goes on from where it was when it is started
    again: the file then has every decision once. docs/ecg-stream.md says more.
    """
    from multires_edge.runtime.bundle import open_bundle
    from multires_edge.runtime.ecg.service import Service
    from multires_edge.runtime.ecg.session import Keeper, Session, check_options
    from multires_edge.runtime.ecg.settings import parse_duration
    from multires_edge.runtime.ecg.sources import Format, open_source
    from multires_edge.runtime.ecg.state_file import StateFile
    from multires_edge.runtime.ecg.streams import EcgStreams

    if len(set(sources)) < len(sources):
        raise InputError(f"a source is given twice: {', '.join(sources)}")
    names = [name.strip() for name in leads.split(",")] if leads else None
    given = Format(rate, unit, names, parse_duration(reconnect, "reconnect") if reconnect else 0.0)
    opened = open_bundle(bundle)
    with contextlib.ExitStack() as stack:
        file = None if state_file is None else StateFile(state_file)
        saved = None
        if file is not None:
            stack.enter_context(file.locked())
            saved, wrong = file.read()
            if wrong:
                _say(f"warning: {wrong}; going on from the state before it")
        inputs = []
        for spec in sources:
            inputs.append(open_source(spec, given))
            stack.callback(inputs[-1].close)
        options: dict[str, Any] = {
            "every": every,
            "pool": pool,
            "gap": gap,
            "thresholds": list(thresholds),
            "allow_missing": allow_missing,
            "rename": _renamed(renamed),
            "backend": backend,
            "precision": precision,
        }
        live = any(source.live for source in inputs)
        streams = EcgStreams(
            opened, [source.electrodes for source in inputs], patience=0 if live else None, **options
        )
        options |= {"bundle": opened.manifest.source["sha256"], "timing": timing, "speed": speed}
        session = Session(streams, inputs, realtime=speed == "realtime")
        if saved is not None:
            check_options(saved["options"], options)
            session.load(saved)
        lines = _open_output(output, saved, session, file is not None)
        keeper = Keeper(
            session, lines, file, options,
            seconds=parse_duration(state_every, "state-every"), timing=timing, say=_say,
            alive=Service().alive,
        )  # fmt: skip
        if file is not None and saved is None:
            keeper.checkpoint(must=True)  # before the first line: no line is ever without a state
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.getsignal(number))
            signal.signal(number, _stopper(session))
        try:
            fine = keeper.run()
            lines.close()
        except BrokenPipeError:
            # The reader has gone, and wants no more. Python must not find that out again at its exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
    for fault in session.faults:
        _say(f"error: {one_line(fault)}")
    if not fine:
        sys.exit(1)


def _open_output(path: Path | None, saved: dict[str, Any] | None, session: Session, keeps_state: bool) -> Any:
    from multires_edge.runtime.ecg.output import FileOutput, PatientOutput, StandardOutput

    if path is not None:
        if saved is not None and saved["output"] is None:
            raise InputError("the state is of a run without --output; leave it out, or start over")
        return FileOutput(path, None if saved is None else saved["output"])
    if saved is not None and saved["output"] is not None:
        raise InputError("the state is of a run with --output; give the same file, or start over")
    if keeps_state:
        _say("note: without --output, lines since the last state come again after a crash")
    if not session.paced:
        return StandardOutput()

    def dropped(count: int) -> str:
        _say(f"warning: the reader of standard output is too slow: {count} lines dropped")
        return (
            f'{{"type": "event", "source": null, "time": null, "event": "dropped_lines", "lines": {count}}}'
        )

    return PatientOutput(StandardOutput(), dropped, lambda: session.stopped)


def _stopper(session: Session) -> Any:
    def stop(number: int, _: Any) -> None:
        session.stop()
        signal.signal(number, signal.SIG_DFL)  # a second one does not wait

    return stop


def _renamed(pairs: tuple[str, ...]) -> dict[str, str]:
    renamed = {}
    for pair in pairs:
        channel, _, lead = pair.partition("=")
        if not channel or not lead:
            raise InputError(f"--lead is {pair!r}, expected CHANNEL=LEAD, such as II=MLII")
        renamed[channel] = lead
    return renamed


def _say(text: str) -> None:
    click.echo(text, err=True)
