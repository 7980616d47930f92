"""A gate that keeps threads out of a library when the program ends."""

from __future__ import annotations

import subprocess
import sys

HEAD = """
import atexit, os, sys, threading, time
from multires_edge.runtime.backends.exit_gate import ExitGate
gate = ExitGate()
inside, log = threading.Event(), []
"""


def run(program: str) -> str:
    """What a program prints before it ends, in time and with exit code 0."""
    result = subprocess.run(
        [sys.executable, "-c", HEAD + program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_the_end_waits_for_a_call() -> None:
    assert (
        run("""
def work():
    with gate.lock():
        inside.set()
        time.sleep(0.3)
        os.write(1, b"done")
threading.Thread(target=work, daemon=True).start()
inside.wait()
""")
        == "done"
    )


def test_no_call_begins_after_the_end() -> None:
    """Neither of a thread that called before, nor of one that never did."""
    assert (
        run("""
def work(known):
    if known:
        with gate.lock():
            pass
    inside.wait()
    time.sleep(0.2)
    with gate.lock():
        os.write(1, b"too late")
for known in (True, False):
    threading.Thread(target=work, args=(known,), daemon=True).start()
# Called in the reverse order: the threads wake up, the gate closes, and the main thread lets them try.
atexit.unregister(gate._close)
for function in (lambda: time.sleep(0.5), gate._close, lambda: (inside.set(), time.sleep(0.1))):
    atexit.register(function)
""")
        == ""
    )


def test_the_thread_that_ends_the_program_may_go_on() -> None:
    """Functions that were registered before the library was imported are called last."""
    assert (
        run("""
def late():
    with gate.lock():
        os.write(1, b"late")
atexit.unregister(gate._close)
atexit.register(late)
atexit.register(gate._close)
""")
        == "late"
    )


def test_a_new_process_has_none_of_the_threads() -> None:
    assert (
        run("""
def work():
    with gate.lock():
        inside.set()
        time.sleep(1)
threading.Thread(target=work, daemon=True).start()
inside.wait()
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
    os.write(1, b"parent")
else:
    with gate.lock():
        os.write(1, b"child ")
""")
        == "child parent"
    )
