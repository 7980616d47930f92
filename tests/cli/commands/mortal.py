"""``multires-edge`` that kills itself, wherever it is, some seconds after a file has a size, or at its end.

python mortal.py FILE SIZE SECONDS COMMAND [ARGUMENTS]
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

from multires_edge.cli.main import main


def kill_when_due(path: Path, size: int, seconds: float) -> None:
    due = False
    while not due:
        time.sleep(0.001)
        with contextlib.suppress(FileNotFoundError):
            due = path.stat().st_size >= size
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    # The watch is in this process: a busy machine holds up both, and the run does not end long before.
    watch = threading.Thread(
        target=kill_when_due, args=(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])), daemon=True
    )
    watch.start()
    if not main(sys.argv[4:], standalone_mode=False):
        os.kill(os.getpid(), signal.SIGKILL)
