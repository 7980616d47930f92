"""TensorRT's own account of how far a build is, and the way to stop one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any


class BuildProgress:
    """Phases nest; what is shown is the outermost and the innermost one.

    TensorRT calls ``monitor`` and the logger from inside the build. No exception may pass through C++, so it
    is kept, the build is told to stop, and :meth:`reraise` raises it afterwards. Ctrl-C would be raised in
    whichever of the two is called next, and TensorRT drops what its logger raises: so within the ``with``
    statement Ctrl-C only leaves word.
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
        # Only the main thread may have handlers, and another's than Python's own is not ours to replace.
        in_main = threading.current_thread() is threading.main_thread()
        self._taken = in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._taken:
            signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._taken:
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
        """Raise what came up during the build."""
        if self._error is not None:
            raise self._error

    def _start(self, phase: str, steps: int) -> None:
        self._phases[phase] = (0, steps)
        self._say()

    def _step(self, phase: str, step: int) -> None:
        done, steps = self._phases.get(phase, (0, 0))
        self._phases[phase] = (step + 1, steps)
        # One line in a hundredth of a phase is enough for a terminal.
        if steps < 100 or (step + 1) * 100 // steps != done * 100 // steps:
            self._say()

    def _finish(self, phase: str) -> None:
        self._phases.pop(phase, None)

    def _say(self) -> None:
        names = list(self._phases)
        ends = names[:1] + names[-1:] * (len(names) > 1)
        self._show(", ".join(f"{name} {self._phases[name][0]}/{self._phases[name][1]}" for name in ends))
