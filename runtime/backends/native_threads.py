"""The rows of a batch over several threads of the native engine, each with a part of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.arrays import holds_good_values
from multires_edge.runtime.backends.protocol import Outcome, Stepper

_Result = TypeVar("_Result")


def parts_of(batch: int, threads: int) -> list[slice]:
    """The rows of each thread: as many in each as possible, and at least one."""
    count = min(threads, batch)
    return [slice(batch * i // count, batch * (i + 1) // count) for i in range(count)]


def in_threads(calls: Sequence[Callable[[], _Result]]) -> list[_Result]:
    """The results of calls that run at the same time, the first of them in this thread.

    The other threads end with them: a process that forks has no thread too few.
    """
    if len(calls) == 1:
        return [calls[0]()]
    with ThreadPoolExecutor(len(calls) - 1) as pool:
        others = [pool.submit(call) for call in calls[1:]]
        return [calls[0](), *(other.result() for other in others)]


class ThreadedStepper(Stepper):
    """Streams in several steppers, which run chunks at the same time. Results are those of one stepper.

    A step is too short to be worth a change of threads: the calling thread does all of it.
    """

    def __init__(
        self, make_part: Callable[[int], Stepper], batch: int, threads: int, n_tokens: int | None
    ) -> None:
        self._rows = parts_of(batch, threads)
        self._parts = [make_part(rows.stop - rows.start) for rows in self._rows]
        self._n_tokens = n_tokens
        self.input = np.concatenate([part.input for part in self._parts])
        self.output = np.concatenate([part.output for part in self._parts])

    def step(self) -> int:
        # All of it is checked first: bad input changes no part.
        if not holds_good_values(self.input, self._n_tokens):
            return Outcome.BAD_INPUT
        outcome: int = Outcome.DONE
        for part, rows in zip(self._parts, self._rows, strict=True):
            part.input[...] = self.input[rows]
            outcome = max(outcome, part.step())
            self.output[rows] = part.output
        return outcome

    def prepare(self) -> None:
        for part in self._parts:
            part.prepare()

    def commit(self) -> None:
        for part in self._parts:
            part.commit()

    def run(self, samples: NDArray[Any]) -> NDArray[Any]:
        def call(part: Stepper, rows: slice) -> Callable[[], NDArray[Any]]:
            return lambda: part.run(np.ascontiguousarray(samples[:, rows]))

        return np.concatenate(in_threads([*map(call, self._parts, self._rows)]), axis=1)

    def reset(self, rows: Sequence[int] | None) -> None:
        for part, _, own in self._shares(rows):
            part.reset(own)

    def read_state(self, rows: Sequence[int] | None = None) -> dict[str, NDArray[Any]]:
        shares = [(part.read_state(own), places) for part, places, own in self._shares(rows)]
        if not shares:
            return self._parts[0].read_state([])
        order = np.argsort(np.concatenate([places for _, places in shares]))
        return {name: np.concatenate([arrays[name] for arrays, _ in shares])[order] for name in shares[0][0]}

    def write_state(self, arrays: dict[str, NDArray[Any]], rows: Sequence[int] | None = None) -> None:
        for part, places, own in self._shares(rows):
            part.write_state({name: array[places] for name, array in arrays.items()}, own)

    def _shares(self, rows: Sequence[int] | None) -> Iterator[tuple[Stepper, NDArray[np.intp], list[int]]]:
        """The parts that have some of the rows; the places of these in ``rows``, and their numbers there."""
        wanted = np.arange(len(self.input)) if rows is None else np.array(rows, np.intp)
        for part, own in zip(self._parts, self._rows, strict=True):
            places = np.flatnonzero((wanted >= own.start) & (wanted < own.stop))
            if len(places):
                yield part, places, (wanted[places] - own.start).tolist()
