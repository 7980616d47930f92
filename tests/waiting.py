"""Waiting for a condition, and never for a time: a busy machine makes a test slow, and not wrong."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

# Seconds until a test gives up. No test that passes waits for so long, so the number may be large.
PATIENCE = 120.0

T = TypeVar("T")


def until(
    condition: Callable[[], T], seconds: float = PATIENCE, *, of: subprocess.Popen[Any] | None = None
) -> T:
    """Wait until a condition is true; returns its value.

    Raises AssertionError after ``seconds``, or when the process ``of`` has ended and the condition is still
    false. The error has what the process wrote to standard error.
    """
    end = time.monotonic() + seconds
    while True:
        ended = of is not None and of.poll() is not None
        if value := condition():
            return value
        assert not ended, f"the process has ended: {_last_words(of)}"
        assert time.monotonic() < end, f"not true within {seconds:g} s. {_last_words(of)}"
        time.sleep(0.005)


def _last_words(process: subprocess.Popen[Any] | None) -> str:
    """The exit code and the messages of a process, which this kills."""
    if process is None:
        return ""
    process.kill()
    code = process.wait()
    said = "" if process.stderr is None or process.stderr.closed else process.stderr.read()
    return f"Exit code {code}: {said}"


def ends(call: Callable[[], T], seconds: float = PATIENCE) -> T:
    """The result of a call in another thread. A call that hangs fails the test, and does not stop all tests.

    Raises AssertionError after ``seconds``, and what the call raises.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def act() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"the call has not ended within {seconds:g} s"
    if errors:
        raise errors[0]
    return results[0]


def exit_code_of(child: int, seconds: float = PATIENCE) -> int:
    """Wait for a forked process; its exit code, or a signal's number with a minus. Kills one that hangs."""
    status: list[int] = []

    def ended() -> bool:
        pid, code = os.waitpid(child, os.WNOHANG)
        if pid:
            status.append(code)
        return bool(pid)

    try:
        until(ended, seconds)
    finally:
        if not status:
            os.kill(child, 9)
            os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status[0])
