"""``multires-edge stream``: from samples to decisions."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from multires_edge.base.errors import InputError
from multires_edge.cli.command import Command
from multires_edge.cli.options import OUTPUT, flag, option
from multires_edge.cli.stream_options import open_session, session_options, stopped_by_signals
from multires_edge.cli.stream_outputs import served_metrics, with_sinks
from multires_edge.cli.terminal import one_line, say

if TYPE_CHECKING:
    from multires_edge.runtime.ecg.checkpoint import Checkpoint
    from multires_edge.runtime.ecg.metrics import Metrics
    from multires_edge.runtime.ecg.output import Output
    from multires_edge.runtime.ecg.session import Session
    from multires_edge.runtime.ecg.state_file import StateFile


@click.command(cls=Command)
@session_options(speed="max")
@option("--output", OUTPUT, "Write lines to FILE.")
@option("--state-file", OUTPUT, "Save the state in FILE, and continue from it.")
@option("--state-every", "TIME", "Clock time between states.", default="10s")
@option(
    "--metrics",
    "HOST:PORT",
    "Serve /metrics for Prometheus and /healthz there; PORT alone is on 127.0.0.1.",
)
@flag("--json as_json", "Do not print the speed to standard error.")
def stream(
    bundle: Path,
    sources: tuple[str, ...],
    output: Path | None,
    state_file: Path | None,
    state_every: str,
    metrics: str | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Turn electrodes into decisions, as JSON lines.

    A SOURCE is a WFDB record, an .edf, .npz, .csv or .jsonl file, - for lines on standard input, or
    tcp://HOST:PORT for lines from a device. Several sources run at once. The exit code is 1 if a source
    breaks off.

    With --state-file and --output, a run that was killed continues when it is started again. The file then
    has every decision once. With --follow, text files are read while they grow. See docs/ecg-stream.md.
    """
    from multires_edge.runtime.ecg.checkpoint import Checkpointer
    from multires_edge.runtime.ecg.output import discard_standard_output
    from multires_edge.runtime.ecg.output_file import OutputFile, check_not_in_use
    from multires_edge.runtime.ecg.service import Service
    from multires_edge.runtime.ecg.settings import parse_duration
    from multires_edge.runtime.ecg.state_file import StateFile

    seconds = parse_duration(state_every, "state-every")
    with contextlib.ExitStack() as stack:
        file = None if state_file is None else StateFile(state_file)
        saved = None if file is None else stack.enter_context(_locked_state(file, output))
        if output is not None:
            check_not_in_use(output)
        session, options = stack.enter_context(open_session(bundle, sources, chosen))
        if saved is not None:
            saved.check_options(options)
            session.load(saved.session)
        counts = stack.enter_context(served_metrics(metrics, session))
        inner = _open_output(output, saved, session, file is not None, counts)
        if isinstance(inner, OutputFile):
            stack.callback(inner.close)
        lines = stack.enter_context(with_sinks(inner, chosen["sinks"], session, counts))
        checkpointer = Checkpointer(
            session, lines, file, options,
            seconds=seconds, timing=chosen["timing"], say=say, alive=Service().alive, metrics=counts,
        )  # fmt: skip
        if saved is not None:
            checkpointer.resume(saved)
        elif file is not None:
            checkpointer.checkpoint(must=True)  # every line has a state, also the first
        try:
            started = time.perf_counter()
            with stopped_by_signals(session):
                fine = checkpointer.run()
                lines.close()
                fine &= session.stopped or not lines.lost
            took = time.perf_counter() - started
        except BrokenPipeError:
            discard_standard_output()  # the reader left
            return
    if not (session.paced or as_json):
        speed = session.seconds / took
        say(f"note: {session.seconds:,.1f} s of record in {took:.2f} s, {speed:,.0f} times real time")
    for fault in session.faults:
        say(f"error: {one_line(fault)}")
    if not fine:
        sys.exit(1)


@contextlib.contextmanager
def _locked_state(file: StateFile, output: Path | None) -> Iterator[Checkpoint | None]:
    """Lock a state for this process, and read it."""
    from multires_edge.runtime.ecg.checkpoint import Checkpoint

    if output is not None and output.resolve() in {path.resolve() for path in file.paths}:
        raise InputError(f"--output {output} is a file of the state {file.path}; give another file")
    with file.locked():
        tree, wrong = file.read()
        if wrong:
            say(f"warning: {wrong}; continuing from the state before it")
        yield None if tree is None else Checkpoint.from_tree(tree)


def _open_output(
    path: Path | None, saved: Checkpoint | None, session: Session, keeps_state: bool, metrics: Metrics | None
) -> Output:
    from multires_edge.runtime.ecg.output import BackgroundOutput, DeviceOutput, StandardOutput, is_device
    from multires_edge.runtime.ecg.output_file import OutputFile

    is_file = path is not None and not is_device(path)
    if saved is not None and is_file != (saved.output is not None):
        before = "without a file as --output" if is_file else "with a file as --output"
        raise InputError(f"the state is of a run {before}; give the same --output, or another state file")
    if path is not None and is_file:
        return OutputFile(
            path, None if saved is None else saved.output,
            repeatable=not any(source.live for source in session.sources),
            endless=any(source.waits for source in session.sources), say=say,
        )  # fmt: skip
    if keeps_state:
        say("note: without a file as --output, a run after a crash repeats the lines since the last state")
    inner = StandardOutput() if path is None else DeviceOutput(path)

    def dropped(count: int) -> str:
        say(f"warning: the reader of standard output is too slow: {count} lines dropped")
        if metrics is not None:
            metrics.dropped_lines += count
        return (
            f'{{"type": "event", "source": null, "time": null, "event": "dropped_lines", "lines": {count}}}'
        )

    return BackgroundOutput(inner, dropped, lambda: session.stopped, waits=not session.paced)
