"""Show the progress of a build that TensorRT reports, and stop the build."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any


class BuildProgress:
    """Shows the outermost and the innermost phase of a build. Phases nest.

    TensorRT calls ``monitor`` and the logger from inside the build. An exception must not pass through C++:
    the monitor stores it and stops the build, and :meth:`reraise` raises it afterwards. TensorRT drops an
    exception that the logger raises, KeyboardInterrupt too. So inside the ``with`` block Ctrl-C only sets a
    flag.
    """

    def __init__(self, trt: Any, show: Callable[[str], None]) -> None:
        self._error: BaseException | None = None
        self._show = show
        self._phases: dict[str, tuple[int, int]] = {}  # steps done and in all, outermost first
        outer = self

        class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                outer._keep(lambda: outer._start(phase_name, num_steps))

            def step_complete(self, phase_name: str, step: int) -> bool:
                outer._keep(lambda: outer._step(phase_name, step))
                return outer._error is None

            def phase_finish(self, phase_name: str) -> None:
                outer._keep(lambda: outer._finish(phase_name))

        self.monitor = Monitor()

    def __enter__(self) -> BuildProgress:
        # Only the main thread can set handlers. A handler that the program has set stays.
        in_main = threading.current_thread() is threading.main_thread()
        self._replaced = in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._replaced:
            signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._replaced:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if kind is None:
            self.reraise()

    def _interrupted(self, *_: Any) -> None:
        self._error = KeyboardInterrupt()

    def _keep(self, action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException as error:
            self._error = error

    def reraise(self) -> None:
        """Raise the exception that stopped the build, if any."""
        if self._error is not None:
            raise self._error

    def _start(self, phase: str, steps: int) -> None:
        self._phases[phase] = (0, steps)
        self._say()

    def _step(self, phase: str, step: int) -> None:
        done, steps = self._phases.get(phase, (0, 0))
        self._phases[phase] = (step + 1, steps)
        # At most about 100 updates per phase.
        if steps < 100 or (step + 1) * 100 // steps != done * 100 // steps:
            self._say()

    def _finish(self, phase: str) -> None:
        self._phases.pop(phase, None)

    def _say(self) -> None:
        names = list(self._phases)
        ends = names[:1] + names[-1:] * (len(names) > 1)
        self._show(", ".join(f"{name} {self._phases[name][0]}/{self._phases[name][1]}" for name in ends))
