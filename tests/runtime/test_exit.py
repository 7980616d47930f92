"""A program may end while its threads compute: the process exits with its own code, without a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CALLS = {
    "run": "stream.run(x)",
    "step": "stream.step(x[..., 0])",
    "whole sequences": "full(x)",
    "loading": "bundle.stream(backend=backend)",
}
PROGRAM = """
import sys, threading
import numpy as np
from multires_edge.runtime import open_bundle
backend = {backend!r}
bundle = open_bundle({path!r})
x = np.zeros((1, 2, 2000), np.float32)
started = threading.Barrier(4)
def work():
    stream, full = bundle.stream(backend=backend), bundle.full(backend=backend)
    {call}
    started.wait()
    while True:
        {call}
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
started.wait()
sys.exit(3)
"""


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("backend", ["native", "onnxruntime"])
@pytest.mark.slow
def test_with_daemon_threads_at_work(backend: str, call: str, exported: Path) -> None:
    program = PROGRAM.format(backend=backend, path=str(exported), call=CALLS[call])
    for _ in range(3):
        result = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
        )
        assert (result.returncode, result.stdout, result.stderr) == (3, "", "")
