"""A broker and workers as processes, for tests that end, stop and cut them off."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Protocol

from tests.conftest import ROOT
from tests.ports import free_port
from tests.waiting import PATIENCE, until

# Addresses of the two ends of the wire, in namespaces of their own.
SERVER_ADDRESS, WORKER_ADDRESS = "10.99.0.1", "10.99.0.2"


def ward_module() -> ModuleType:
    """``examples/fleet/ward.py``."""
    spec = importlib.util.spec_from_file_location("ward", ROOT / "examples" / "fleet" / "ward.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ward"] = module
    spec.loader.exec_module(module)
    return module


class Killable(Protocol):
    """What runs until it is killed."""

    def kill(self) -> None: ...


class Server:
    """A nats-server with JetStream in ``folder``; it has the same port and streams after a restart."""

    def __init__(
        self, folder: Path, host: str = "127.0.0.1", *, jetstream: bool = True, mqtt: bool = False,
        more: str = "",
    ) -> None:  # fmt: skip
        self.host, self.port, self._folder = host, free_port(), folder
        self.mqtt_port = free_port() if mqtt else 0
        self._process: subprocess.Popen[bytes] | None = None
        lines = [f"host: {host}", f"port: {self.port}", "server_name: test", more]
        if jetstream:
            lines.append(f'jetstream {{ store_dir: "{folder}/jetstream" }}')
        if mqtt:
            lines.append(f"mqtt {{ host: {host}, port: {self.mqtt_port} }}")
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "server.conf"
        self._config.write_text("\n".join(lines))

    @property
    def address(self) -> str:
        return f"nats://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        program = Path(sys.executable).parent / "nats-server"
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen([program, "-c", self._config], stdout=log, stderr=log)
        until(self._answers, of=self._process)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
            return True
        return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Wire:
    """A network namespace that is connected with this one, as long as the wire is whole."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(["unshare", "-n", "sleep", "3600"])
        self.pid = self._holder.pid
        own = Path("/proc/self/ns/net").readlink()
        until(lambda: Path(f"/proc/{self.pid}/ns/net").readlink() != own, of=self._holder)
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "here", "type", "veth", "peer", "name", "there")
        _ip("link", "set", "there", "netns", str(self.pid))
        _ip("addr", "add", f"{SERVER_ADDRESS}/24", "dev", "here")
        _ip("link", "set", "here", "up")
        inside = ["nsenter", "-t", str(self.pid), "-n", "ip"]
        for words in (
            ["link", "set", "lo", "up"],
            ["addr", "add", f"{WORKER_ADDRESS}/24", "dev", "there"],
            ["link", "set", "there", "up"],
        ):
            subprocess.run([*inside, *words], check=True)

    def cut(self) -> None:
        _ip("link", "set", "here", "down")

    def mend(self) -> None:
        _ip("link", "set", "here", "up")

    def kill(self) -> None:
        self._holder.kill()
        self._holder.wait()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class WorkerProcess:
    """A ``multires-edge serve``; ``wire`` runs it in another namespace."""

    def __init__(
        self, bundle: Path, address: str, log: Path, *options: str, wire: Wire | None = None
    ) -> None:
        inside = [] if wire is None else ["nsenter", "-t", str(wire.pid), "-n"]
        command = [*inside, sys.executable, "-m", "multires_edge", "serve", str(bundle), "--nats", address]
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen([*command, *options], stdout=output, stderr=output)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it without a word, whatever state it is in."""
        self._process.kill()
        self._process.wait()

    def end(self) -> int:
        """Ask it to end; its exit code."""
        self._process.terminate()
        return self._process.wait(PATIENCE)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def pid(self) -> int:
        return self._process.pid


@contextlib.contextmanager
def running(*things: Killable) -> Iterator[None]:
    """Kill everything at the end, also after a failure."""
    try:
        yield
    finally:
        for thing in things:
            thing.kill()
