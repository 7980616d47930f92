"""Who does the work: this process, several processes of this machine, or a Dask cluster.

All of them run a function on items and yield each item with its result, in any order. An error of one item
is a result too. Work that is lost with a process is done again.
"""

from __future__ import annotations

import multiprocessing
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

from multires_edge.base.errors import BackendError, InputError, MultiresError, require_extra

Item = TypeVar("Item")
Result = TypeVar("Result")
_AHEAD = 4  # items for each process that wait for it
_ATTEMPTS = 3
_CONNECT_SECONDS = 5


@dataclass(frozen=True)
class Failure:
    """Why an item has no result."""

    message: str


class Workers(ABC):
    """Runs functions on items. Functions, items and results can be pickled."""

    @abstractmethod
    def run(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result | Failure]]:
        """Yield each item with its result, or with why it has none."""

    def close(self) -> None:  # noqa: B027, a process has nothing to close
        """End processes and connections."""


class ThisProcess(Workers):
    """One item after the other."""

    def run(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result | Failure]]:
        for item in items:
            yield item, _result(function, item)


class Processes(Workers):
    """``jobs`` processes. One that dies is replaced; an item that kills several of them is given up."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        # A fork would share the threads of libraries, which are not there.
        return ProcessPoolExecutor(self._jobs, mp_context=multiprocessing.get_context("spawn"))

    def run(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result | Failure]]:
        left, again = iter(items), list[Item]()
        running: dict[Future[Any], Item] = {}
        lost = 0
        while True:
            while len(running) < _AHEAD * self._jobs:
                item = again.pop() if again else next(left, _END)
                if item is _END:
                    break
                try:
                    running[self._pool.submit(_result, function, item)] = item
                except BrokenProcessPool:  # a process died since the last wait
                    again.append(item)
                    break
            if not running and not again:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                item = running.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    again.append(item)
                else:
                    lost = 0
                    yield item, result
            if again:
                lost += 1
                if lost == _ATTEMPTS:
                    raise BackendError(
                        f"processes died {lost} times in a row; give fewer --jobs or more memory"
                    )
                again += running.values()
                running.clear()
                self._pool.shutdown(cancel_futures=True)
                self._pool = self._new()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class Cluster(Workers):
    """The workers of the Dask scheduler at an ``address``, which see the same files under the same names."""

    def __init__(self, address: str) -> None:
        require_extra("archive", "a Dask scheduler", "distributed")
        if not re.fullmatch(r"[a-z]+://[^\s/]+:[0-9]+|[^\s/:]+:[0-9]+", address):
            raise InputError(f"the scheduler is {address!r}, expected an address such as tcp://10.0.0.5:8786")
        distributed: Any = import_module("distributed")
        try:
            self._client: Any = distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError, ImportError) as error:
            reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            raise InputError(
                f"no Dask scheduler answers at {address} ({reason}); start one with `dask scheduler`"
            ) from error

    def run(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result | Failure]]:
        distributed: Any = import_module("distributed")
        threads = sum(self._client.nthreads().values())
        left = iter(items)
        running: dict[str, tuple[Any, Item]] = {}
        finished = distributed.as_completed(loop=self._client.loop)

        def submit() -> None:
            if (item := next(left, _END)) is not _END:
                future = self._client.submit(_result, function, item, pure=False, retries=_ATTEMPTS)
                running[future.key] = future, item
                finished.add(future)

        for _ in range(_AHEAD * max(8, threads)):
            submit()
        while running:
            future = next(finished)
            _, item = running.pop(future.key)
            try:
                result = future.result()
            except (distributed.CancelledError, OSError, TimeoutError) as error:
                raise BackendError(
                    f"the connection to the Dask scheduler was lost ({type(error).__name__})"
                ) from error
            except distributed.KilledWorker as error:
                raise BackendError(
                    "several Dask workers died over one piece; give them more memory"
                ) from error
            submit()
            yield item, result

    def close(self) -> None:
        self._client.close()


_END: Any = object()


def _result(function: Callable[[Item], Result], item: Item) -> Result | Failure:
    try:
        return function(item)
    except (MultiresError, OSError) as error:
        return Failure(str(error))
