"""A stream: feed one sample at a time, indefinitely, at constant cost and memory."""

from __future__ import annotations

import operator
import threading
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import InputError, OverflowedError, StateError
from multires_edge.format.arrays import all_finite, check_array
from multires_edge.format.specs import GraphSpec, concrete
from multires_edge.runtime.backends.protocol import Outcome, Stepper
from multires_edge.runtime.state import StreamState

_MAX_POSITION = 1 << 62  # no stream reaches it, and it leaves room to count on


class Stream:
    """``batch`` independent streams in lockstep; made by :meth:`Bundle.stream`.

    Each row of the batch is a separate stream with its own position, and can be restarted separately.
    Only one thread may use a stream object at a time. A call from a second thread during another call
    raises StateError and changes nothing. Different stream objects are independent.

    >>> import numpy as np
    >>> from multires_edge.runtime import open_bundle
    >>> stream = open_bundle("out/demo.bundle").stream(batch=2)  # two patients
    >>> stream.step(np.zeros((2, 12), np.float32)).shape  # one sample of 12 leads each
    (2, 5)
    >>> stream.run(np.zeros((2, 12, 50), np.float32)).shape  # 50 samples each
    (2, 5, 50)
    >>> stream.reset(rows=[0])  # a new patient in row 0
    >>> saved = stream.save_state()
    >>> stream.load_state(saved)
    """

    def __init__(
        self, stepper: Stepper, spec: GraphSpec, batch: int, model: str, n_tokens: int | None
    ) -> None:
        self._stepper = stepper
        self._states = {state.input: state for state in spec.states}
        self._name = spec.inputs[0].name
        self._dtype = np.dtype(spec.inputs[0].dtype)
        self._shape = concrete(spec.inputs[0].shape, batch)
        self._model = model
        self._n_tokens = n_tokens
        lock = threading.Lock()
        self._acquire, self._release = lock.acquire, lock.release
        self._ownership = _Ownership(lock)
        # Looked up once: a few attribute lookups take as long as a step of a small network.
        self._input, self._output, self._step = stepper.input, stepper.output, stepper.step
        self.batch = batch

    def __repr__(self) -> str:
        rows = f"{self.batch} row{'s' if self.batch > 1 else ''}"
        by = f"{self._model}, {type(self._stepper).__name__}"
        return f"<Stream of {rows}: {self._name} {self._shape}, {self.state_bytes:,} bytes per row, {by}>"

    def step(self, x: NDArray[Any]) -> NDArray[Any]:
        """Feed one sample: x (batch, d_input) float32, or tokens (batch,) int64.

        Returns (batch, d_output) float32. A classifier returns the logits of all samples so far, or of its
        window. An autoregressive model takes x[t-1] and returns the parameters of step t. Raises InputError
        and leaves the state unchanged. Raises OverflowedError if inputs are finite but so large that the
        output overflows; the rows in its message then need a reset.
        """
        if type(x) is not np.ndarray or x.dtype != self._dtype or x.shape != self._shape:
            self._check(x)
        # The same as `with self._ownership`, without its two calls. They would take a microsecond, because a
        # step evicts the interpreter from the nearest cache.
        if not self._acquire(False):
            _refuse_second_thread()
        try:
            self._input[...] = x
            outcome = self._step()
            y = self._output.copy()
            if outcome:
                self._refuse(outcome, y)
        finally:
            self._release()
        return y

    def prepare(self) -> None:
        """Do all of the next step that does not depend on its sample, while the program waits for it.

        A step after this returns sooner; its result is the same. What the step left undone for this is done
        by :meth:`commit`, or by the next call of any other method. Backends other than native do nothing.

        >>> import numpy as np
        >>> from multires_edge.runtime import open_bundle
        >>> stream = open_bundle("out/demo.bundle").stream()
        >>> for sample in np.zeros((100, 1, 12), np.float32):  # each from a device
        ...     logits = stream.step(sample)
        ...     stream.prepare()
        """
        with self._ownership:
            self._stepper.prepare()

    def commit(self) -> None:
        """Do what a step after :meth:`prepare` left undone. Only a program that measures time needs this."""
        with self._ownership:
            self._stepper.commit()

    def _check(self, x: Any) -> None:
        check_array(x, self._name, self._dtype, self._shape, self._n_tokens)

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        """Feed a chunk: x (batch, d_input, time), or tokens (batch, time). The state continues.

        Returns the outputs of :meth:`step` for every step, (batch, d_output, time).
        """
        x = check_array(x, self._name, self._dtype, (*self._shape, "time"), self._n_tokens)
        samples = np.ascontiguousarray(np.moveaxis(x, -1, 0))
        with self._ownership:
            outputs = self._stepper.run(samples)
        if not all_finite(outputs):
            self._refuse_output(np.moveaxis(outputs, 1, 0))
        return np.ascontiguousarray(np.moveaxis(outputs, 0, -1))

    def reset(self, rows: Iterable[int] | None = None) -> None:
        """Restart all rows of the batch, or only ``rows``. Other rows do not change."""
        if rows is not None:
            rows = self._row_numbers(rows)
        with self._ownership:
            self._stepper.reset(rows)

    def save_state(self, rows: Iterable[int] | None = None) -> StreamState:
        """A copy of the state of all rows, or only of ``rows``. The stream does not change."""
        numbers = None if rows is None else self._row_numbers(rows)
        with self._ownership:
            arrays = self._stepper.read_state(numbers)
        return StreamState(self._model, self.batch if numbers is None else len(numbers), arrays)

    def load_state(self, saved: StreamState, rows: Iterable[int] | None = None) -> None:
        """Continue all rows, or only ``rows``, from a saved state. Other rows do not change.

        Raises StateError for a state of another model, pooling or batch.
        """
        numbers = self.check_state(saved, rows)
        with self._ownership:
            self._stepper.write_state(saved.arrays, numbers)

    def check_state(self, saved: StreamState, rows: Iterable[int] | None = None) -> list[int] | None:
        """Raise StateError unless :meth:`load_state` can load it. Returns the numbers of ``rows``."""
        numbers = None if rows is None else self._row_numbers(rows)
        batch = self.batch if numbers is None else len(numbers)
        if not isinstance(saved, StreamState):
            raise StateError(
                f"state is a {type(saved).__name__}, expected a StreamState, from save_state() or "
                "StreamState.from_bytes()"
            )
        if saved.model != self._model:
            raise StateError(
                f"the state is of another model: it is of {saved.model}, this stream runs {self._model}"
            )
        if saved.batch != batch:
            expected = f"this stream's {batch}" if numbers is None else f"{batch} as in rows"
            raise StateError(f"the state has a batch of {saved.batch}, expected {expected}")
        if set(saved.arrays) != set(self._states):
            raise StateError(f"the state has {sorted(saved.arrays)}, expected {sorted(self._states)}")
        for name, spec in self._states.items():
            array = saved.arrays[name]
            shape = (batch, *spec.shape[1:])
            if array.shape != shape or array.dtype != np.dtype(spec.dtype):
                raise StateError(
                    f"state {name} is {array.dtype} {array.shape}, expected {spec.dtype} {shape}"
                )
        position = saved.arrays["position"]
        if not ((position >= 0) & (position <= _MAX_POSITION)).all() or not all(
            all_finite(array) for array in saved.arrays.values() if array.dtype.kind == "f"
        ):
            raise StateError("the state has NaN, infinity or a position outside of 0 to 2^62: it is damaged")
        return numbers

    @property
    def state_bytes(self) -> int:
        """Bytes of state per row of the batch."""
        return sum(spec.row_bytes for spec in self._states.values())

    def _row_numbers(self, rows: Iterable[int]) -> list[int]:
        try:
            numbers = [-1 if isinstance(row, bool | np.bool_) else operator.index(row) for row in rows]
        except TypeError as error:
            raise InputError(f"rows is {rows!r}, expected a list of row numbers") from error
        for number in numbers:
            if not 0 <= number < self.batch:
                raise InputError(f"rows is {rows!r}, expected row numbers from 0 to {self.batch - 1}")
        return numbers

    def _refuse(self, outcome: int, y: NDArray[Any]) -> None:
        if outcome == Outcome.BAD_INPUT:
            self._check(self._input)
        else:
            self._refuse_output(y)

    def _refuse_output(self, y: NDArray[Any]) -> NoReturn:
        """y is (batch, ...)."""
        rows = [row for row in range(self.batch) if not np.isfinite(y[row]).all()]
        raise OverflowedError(
            f"rows {rows}: the inputs were finite but so large that the output overflowed; check their "
            f"scale, then restart these rows with reset(rows={rows})"
        )


class _Ownership:
    """Reserves a stream for one call. Never waits."""

    __slots__ = ("_lock",)

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            _refuse_second_thread()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _refuse_second_thread() -> NoReturn:
    raise StateError("another thread is using this stream; give each thread its own stream")
