"""Time and memory to open a backend and to run its first step, measured in a new process.

    python -m multires_edge.runtime.bench.cold BUNDLE BACKEND PRECISION THREADS STREAMS

prints one JSON object. A new process has not loaded the libraries yet and has no freed memory to reuse, so it
grows like a user's program. The disk's cache is warm.
"""

from __future__ import annotations

import json
import mmap
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multires_edge.base.errors import BackendError

MEMORY = ("process_bytes", "library_bytes", "stream_bytes")
_TIMEOUT_SECONDS = 600


def measure_cold(bundle: Path, backend: str, precision: str, threads: int, streams: int) -> dict[str, Any]:
    """Seconds and bytes as in docs/benchmarks.md. Bytes are None if the system does not report them.

    Raises BackendError if the process fails.
    """
    arguments = [str(bundle), backend, precision, str(threads), str(streams)]
    command = [sys.executable, "-m", __name__, *arguments]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendError(f"a process for {backend} {precision} could not be run ({error})") from error
    if result.returncode != 0:
        said = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise BackendError(
            f"a process for {backend} {precision} ended with exit code {result.returncode}: {said}"
        )
    entry: dict[str, Any] = json.loads(result.stdout)
    return entry


def main(arguments: Sequence[str]) -> None:
    """Measure, and print the JSON object."""
    path, backend, precision, threads, streams = arguments

    from multires_edge.runtime.backends.registry import backend_named
    from multires_edge.runtime.bench.candidate import random_sample
    from multires_edge.runtime.bundle import open_bundle

    warnings.simplefilter("ignore")
    seconds: dict[str, float] = {}

    def timed(name: str, function: Any, *args: Any, **options: Any) -> Any:
        started = time.perf_counter()
        result = function(*args, **options)
        seconds[name] = time.perf_counter() - started
        return result

    bundle = timed("open_seconds", open_bundle, path)
    sample = random_sample(bundle.manifest, int(streams))
    at_first = resident_bytes()
    timed("import_seconds", lambda: backend_named(backend).load())
    with_library = resident_bytes()
    options = {"backend": backend, "precision": precision, "threads": int(threads)}
    stream = timed("stream_seconds", bundle.stream, int(streams), **options)
    timed("first_step_seconds", stream.step, sample)
    stream.reset()  # touches every page of the state, as a long stream would
    for _ in range(10):
        stream.step(sample)
    at_last = resident_bytes()
    memory: dict[str, int | None] = dict.fromkeys(MEMORY)
    if at_first is not None and with_library is not None and at_last is not None:
        memory = {
            "process_bytes": at_last,
            "library_bytes": with_library - at_first,
            "stream_bytes": at_last - with_library,
        }
    print(json.dumps({"load": seconds, "memory": memory}))


def resident_bytes() -> int | None:
    """Bytes of this process in RAM; None if the system does not report them like Linux."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * mmap.PAGESIZE


if __name__ == "__main__":
    main(sys.argv[1:])
