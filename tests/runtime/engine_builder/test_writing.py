"""Engines and their sidecars on the disk, whatever happens meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from multires_edge.base.errors import OutputError
from multires_edge.base.files import sha256_of, staged_file
from multires_edge.format.specs import GraphSpec
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends.tensorrt.api import log_of
from multires_edge.runtime.backends.tensorrt.engine_file import engines_of
from multires_edge.runtime.backends.tensorrt.sidecar import read_sidecar
from multires_edge.runtime.engine_builder import writing
from multires_edge.runtime.engine_builder.shapes import Range
from tests.runtime.backends.tensorrt.bundles import sidecar_of
from tests.runtime.engine_builder.conftest import build_step
from tests.waiting import PATIENCE

pytest.importorskip("tensorrt_rtx", reason="needs the rtx extra, for Linux and Windows on x86-64")


def full_at(ending: str) -> Any:
    """Writing files, on a disk that has no room for one of them."""

    def staged(final: Path, content: bytes) -> AbstractContextManager[Path]:
        if final.name.endswith(ending):
            raise OutputError(f"{final}: cannot be written (No space left on device)")
        return staged_file(final, content)

    return staged


class TestWriting:
    def test_an_engine_that_is_there(self, bundle: Path) -> None:
        first = build_step(bundle)
        with pytest.raises(OutputError, match="exists already; give --force"):
            build_step(bundle)
        again = build_step(bundle, ranges={"streams": Range(1, 1, 2)}, force=True)
        assert read_sidecar(again.path).profile != first.sidecar.profile
        assert read_sidecar(again.path).engine.sha256 == sha256_of(again.path)

    @pytest.mark.parametrize("file", [".engine", ".layers.txt", ".json"])
    def test_a_full_disk_leaves_what_was_there(
        self, bundle: Path, monkeypatch: pytest.MonkeyPatch, file: str
    ) -> None:
        for built in (False, True):
            if built:
                monkeypatch.undo()
                build_step(bundle)
            before = {path: path.read_bytes() for path in bundle.glob("engines/*")}
            monkeypatch.setattr(writing, "staged_file", full_at(file))
            with pytest.raises(OutputError, match="No space left"):
                build_step(bundle, force=built)
            assert {path: path.read_bytes() for path in bundle.glob("engines/*")} == before

    def test_two_at_once_leave_one_and_its_sidecar(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first is slow in renaming its sidecar, and the second comes in between."""
        rename, renaming = Path.replace, threading.Event()

        def slow(path: Path, target: Path) -> Path:
            if target.suffix == ".json" and b"first" in path.read_bytes():
                renaming.set()
                time.sleep(0.3)
            return rename(path, target)

        monkeypatch.setattr(Path, "replace", slow)
        path = tmp_path / "engines" / "step.fp32.rtx.engine"
        graph = GraphSpec("step.onnx", "0" * 64, 24, (), ())

        def write(plan: bytes) -> None:
            sidecar = replace(sidecar_of(path.name, plan, graph), tools={"plan": plan.decode()})
            writing.write_engine(path, plan, "", sidecar, force=True)

        first = threading.Thread(target=write, args=(b"first",), daemon=True)
        first.start()
        assert renaming.wait(PATIENCE)
        write(b"second")
        first.join(PATIENCE)
        assert read_sidecar(path).engine.sha256 == sha256_of(path)

    def test_ctrl_c_during_the_build(self, bundle: Path) -> None:
        def interrupt(_: str) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build_step(bundle, progress=interrupt)
        assert not (bundle / "engines").exists()

    def test_ctrl_c_while_tensorrt_speaks(self, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """TensorRT drops an exception of its logger, and continues."""
        log = log_of("tensorrt_rtx").logger
        speak = type(log).log

        def interrupted(self: Any, severity: Any, text: str) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            speak(self, severity, text)

        monkeypatch.setattr(type(log), "log", interrupted)
        # A shell starts what runs in the background deaf to Ctrl-C.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                build_step(bundle)
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        finally:
            signal.signal(signal.SIGINT, before)
        assert not (bundle / "engines").exists()

    @pytest.mark.slow
    def test_a_killed_build_leaves_no_engine(self, bundle: Path) -> None:
        """Killed between the engine and its sidecar, the worst moment."""
        program = (
            "import sys, time\n"
            "from multires_edge.runtime import open_bundle\n"
            "from multires_edge.runtime.engine_builder import build\n"
            "from pathlib import Path\n"
            "rename = Path.replace\n"
            "def slow(path, target):\n"
            "    if target.suffix == '.json':\n"
            "        print('now', flush=True)\n"
            "        time.sleep(60)\n"
            "    return rename(path, target)\n"
            "Path.replace = slow\n"
            "builder = build.Builder.here('rtx', ['8.6'])\n"
            "builder.build(builder.plan(open_bundle(sys.argv[1]), 'step', 'fp32'))\n"
        )
        with subprocess.Popen([sys.executable, "-c", program, str(bundle)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None and child.stdout.readline().strip() == b"now"
            os.kill(child.pid, signal.SIGKILL)
        assert engines_of(bundle) == []
        assert len(open_bundle(bundle).manifest.forms) == 1
        built = build_step(bundle)
        assert engines_of(bundle) == [built.path]
