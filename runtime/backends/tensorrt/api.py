"""The Python API that ``tensorrt`` and ``tensorrt_rtx`` share: import, version and messages.

All code that builds or runs engines takes the module from here. So tests with TensorRT-RTX, which builds
without a GPU, cover the code that runs on a device.
"""

from __future__ import annotations

import functools
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from multires_edge.base.errors import BackendError
from multires_edge.base.installation import pip_install
from multires_edge.format.targets import Version, dotted

_INSTALL_TENSORRT = (
    "JetPack has it as python3-libnvinfer (make the virtual environment with --system-site-packages); "
    "elsewhere install NVIDIA's TensorRT for Python"
)


@dataclass(frozen=True)
class Api:
    """One of the two packages, imported."""

    package: str
    module: Any
    version: Version

    @property
    def name(self) -> str:
        """Product and version, such as "TensorRT 10.3.0"."""
        product = "TensorRT-RTX" if self.package == "tensorrt_rtx" else "TensorRT"
        return f"{product} {dotted(self.version)}"


def load_api(package: str) -> Api:
    """Import ``tensorrt`` or ``tensorrt_rtx``. Raises BackendError with how to install it."""
    try:
        module = import_module(package)
    except (ImportError, OSError) as error:
        # A wheel without its libraries raises OSError.
        how = _INSTALL_TENSORRT if package == "tensorrt" else pip_install("rtx")
        raise BackendError(f"needs {package}, which cannot be imported ({error}): {how}") from error
    numbers = re.findall(r"\d+", str(module.__version__))
    return Api(package, module, tuple(int(number) for number in numbers[:4]))


@dataclass(frozen=True)
class Message:
    """A message of TensorRT; ``severity`` is "warning" or "error"."""

    severity: str
    text: str


class Log:
    """Collects TensorRT's messages. Each package needs a single log: TensorRT keeps its first logger.

    ``recent`` has the last ones that nobody collected.
    """

    def __init__(self, trt: Any) -> None:
        self.recent: deque[Message] = deque(maxlen=20)
        self._messages: list[Message] | deque[Message] = self.recent
        outer = self
        severities = {trt.ILogger.WARNING: "warning", trt.ILogger.ERROR: "error"}
        severities[trt.ILogger.INTERNAL_ERROR] = "error"

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, text: str) -> None:
                if severity in severities:
                    outer._messages.append(Message(severities[severity], text))

        self.logger = Logger()

    @contextmanager
    def collect(self) -> Iterator[list[Message]]:
        """Collect warnings and errors in a new list."""
        collected: list[Message] = []
        self._messages = collected
        try:
            yield collected
        finally:
            self._messages = self.recent


@functools.cache
def log_of(package: str) -> Log:
    """The log of a package, shared by builders, parsers and runtimes."""
    return Log(load_api(package).module)
