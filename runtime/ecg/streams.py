"""From samples to decisions: one source, or several sources through one network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import BackendError, InputError, StateError
from multires_edge.format.card import Preprocessing
from multires_edge.format.fields import Natural
from multires_edge.runtime.backends.registry import FixedPoolingError
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.ecg.block import Block
from multires_edge.runtime.ecg.carry import Carry, tag_of
from multires_edge.runtime.ecg.decision import Decision, Event, Timing
from multires_edge.runtime.ecg.frontend import FrontEnd, FrontEndState
from multires_edge.runtime.ecg.gaps import GapPolicy
from multires_edge.runtime.ecg.networks import Networks, NetworksState
from multires_edge.runtime.ecg.probabilities import probabilities_of
from multires_edge.runtime.ecg.replay import Replay, Start, begin, replay_from, replay_samples
from multires_edge.runtime.ecg.settings import (
    DEFAULT_ALARM_AFTER,
    Pool,
    StreamOptions,
    parse_duration,
    whole_steps,
)
from multires_edge.runtime.ecg.sources.protocol import SignalSpec
from multires_edge.runtime.ecg.thresholds import Alarms, AlarmsState

# A recording at full speed has several decisions ready. One call of the network for all of them, up to this
# number of steps, costs less than a call for each. A call of more steps would keep signals waiting.
_STEPS_TOGETHER = 1000

# Called with a source's row, the number of its first sample, and samples (n, channels) float64 in the card's
# unit at the source's rate, NaN without a value. A monitor draws them.
SampleObserver = Callable[[int, int, NDArray[np.float64]], None]


@dataclass(frozen=True, eq=False)
class StreamsState:
    """The networks, then a part of each source."""

    networks: NetworksState
    fronts: tuple[FrontEndState, ...]
    alarms: tuple[AlarmsState, ...]
    signal_from: tuple[Natural, ...]
    replays: tuple[Replay | None, ...]
    ended: tuple[bool, ...]


class EcgStreams:
    """Several sources, each with its own leads and rate, through one network.

    In ``lockstep`` every source has a row of one batch, and all advance together: a decision waits for the
    samples of every source that has not ended. The decisions and their order then depend on the samples
    alone. Otherwise each source has its own stream and never waits for another: for live sources.

    ``options`` or keyword arguments are those of :class:`StreamOptions`. ``starts`` tell where in their
    records the sources begin; each is at its start by default. ``fronts`` are the front ends of the sources.
    Use one thread at a time.
    """

    def __init__(
        self,
        bundle: Bundle,
        sources: Sequence[SignalSpec],
        options: StreamOptions | None = None,
        *,
        lockstep: bool = True,
        on_samples: SampleObserver | None = None,
        starts: Sequence[Start] | None = None,
        **keywords: Any,
    ) -> None:
        options = replace(options or StreamOptions(), **keywords)
        starts = starts or [Start()] * len(sources)
        if not sources:
            raise InputError("no sources: give at least one")
        self.bundle, self.options = bundle, options
        preprocessing = preprocessing_of(bundle)
        rate = preprocessing.sampling_rate
        own = bundle.manifest.pooling
        self._pool, self._own = Pool.parse(options.pool, rate, own).suits(own), own
        self.labels = bundle.class_names
        every = whole_steps(parse_duration(options.every, "every"), rate, "every")
        gap = GapPolicy.parse(options.gap)
        thresholds = options.parsed_thresholds()
        self._alarms = [Alarms(thresholds, self.labels, options.alarm_decisions) for _ in sources]
        self._alarm_after = self._steps_before_alarms(rate)
        settings = [every, rate, self._alarm_after, options.alarm_decisions, self.labels]
        alarms = [[each.label, each.on, each.off] for each in thresholds]
        self._settings = [tag_of([*settings, float(source.rate), alarms]) for source in sources]
        carries = [
            None if start.carry is None else Carry.from_bytes(start.carry, tag, len(thresholds))
            for start, tag in zip(starts, self._settings, strict=True)
        ]
        self.fronts = [
            FrontEnd(
                source, preprocessing, every=every, reset=self._pool.reset, longest=_STEPS_TOGETHER, gap=gap,
                allow_missing=options.allow_missing, rename=options.rename, start=start.sample,
                origin=start.origin if carry is None else min(carry.origin, start.sample),
                align=self._pool.alignment(own),
            )
            for source, start, carry in zip(sources, starts, carries, strict=True)
        ]  # fmt: skip
        field = bundle.manifest.model.receptive_field
        self.replay_samples = [
            replay_samples(front, self._pool, own, field, every, self._alarm_after) for front in self.fronts
        ]
        each = zip(starts, carries, self.fronts, self.replay_samples, strict=True)
        self._replays = [begin(*arguments, len(thresholds)) for arguments in each]
        # The step of each source's stream up to which too few leads showed a heart.
        self._signal_from = [0] * len(sources)
        self._usable = preprocessing.usable_channels
        self.lockstep = lockstep
        self._networks = self._open_networks(bundle, options)
        self._probabilities = probabilities_of(bundle)
        self._step_seconds = 1 / rate
        self._ended = [False] * len(sources)
        self._on_samples = on_samples

    def _steps_before_alarms(self, rate: float) -> float:
        """Steps of signal before an alarm: by default until the window is full."""
        after, window = self.options.alarm_after, self._pool.window(self._own)
        if after is None and window is not None:
            return window
        return rate * parse_duration(
            DEFAULT_ALARM_AFTER if after is None else after, "alarm_after", zero=True
        )

    def _open_networks(self, bundle: Bundle, options: StreamOptions) -> Networks:
        batches = [len(self.fronts)] if self.lockstep else [1] * len(self.fronts)
        backend, precision, pool = options.backend, options.precision, self._pool.pool
        try:
            return Networks(
                [bundle.stream(n, backend=backend, precision=precision, pool=pool) for n in batches]
            )
        except FixedPoolingError as error:
            if options.pool is not None:
                raise
            raise BackendError(f"{error}; pool bundle takes the graph's as it is") from error

    def feed(self, row: int, samples: NDArray[Any], arrived: float | None = None) -> None:
        """Take samples (n, leads) of a source, for any n, NaN without a value.

        ``arrived`` is the ``time.monotonic()`` of their arrival, for live sources. Raises InputError.
        """
        front = self._open_front(row)
        if not isinstance(samples, np.ndarray) or samples.dtype.kind not in "fiu":
            kind = samples.dtype if isinstance(samples, np.ndarray) else type(samples).__name__
            raise InputError(f"{front.name}: samples are {kind}, expected an array of numbers")
        if samples.ndim != 2 or samples.shape[1] != len(front.leads.leads):
            raise InputError(
                f"{front.name}: samples have shape {samples.shape}, expected (n, {len(front.leads.leads)}): "
                f"{', '.join(front.leads.leads)}"
            )
        mapped = front.leads(samples)
        if self._on_samples is not None:
            self._on_samples(row, front.received, mapped)
        front.add_mapped(mapped, arrived)

    def missing(self, row: int, count: int, arrived: float | None = None) -> None:
        """Take ``count`` samples of a source that never arrived, such as those of a lost packet."""
        self._open_front(row).add_missing(count, arrived)

    def note(self, row: int, kind: str, *, always: bool = False, **details: Any) -> None:
        """Report an event at this point of a source's record: ``always``, or unless there are too many."""
        self._open_front(row).note(kind, always=always, **details)

    def report(self, row: int) -> None:
        """Report the events of a source at the next :meth:`pump`, without waiting for a decision."""
        self._open_front(row).report()

    def finish(self, row: int) -> None:
        """End a source. The next :meth:`pump` returns its last decisions."""
        self._open_front(row).finish()
        self._ended[row] = True

    def reopen(self, row: int) -> None:
        """Continue a source that had ended or was away. It starts over with the next value."""
        self._ended[row] = False
        self.fronts[row].reopen()

    def pump(self) -> list[Decision | Event]:
        """The decisions and events that are due with the samples so far, in order."""
        out: list[Decision | Event] = []
        while rows := self._rows_to_go():
            count = self._blocks_together(rows)
            runs = {row: [self.fronts[row].ready.popleft() for _ in range(count)] for row in rows}
            logits = self._run({row: run for row, run in runs.items() if run[0].x is not None})
            for i in range(count):
                for row, run in runs.items():
                    replayed = self._is_replayed(row, run[i])
                    items = self._items(row, run[i], logits[row][i] if run[i].decide else None)
                    out += [] if replayed else items
        return out

    def prepare(self, row: int) -> None:
        """Work ahead for a source while the program waits for samples.

        The samples that wait for a decision are converted and their steps are run; if one more sample
        completes the decision, its step is prepared. The decision then comes sooner after its last sample,
        and no result changes. In lockstep the rows of a batch advance together: with several sources, nothing
        is done. Raises as :meth:`pump`.
        """
        front = self._open_front(row)
        if (self.lockstep and len(self.fronts) > 1) or front.ready:
            return
        if (block := front.advance()) is not None:
            self._networks.run({row: [block]}, ())
        if front.awaited == 1:
            self._networks.prepare(row)

    def _is_replayed(self, row: int, block: Block) -> bool:
        """Whether a block comes before what the stream was started for."""
        replay = self._replays[row]
        if replay is None or block.time <= replay.until:
            return replay is not None
        self._replays[row] = None
        self._alarms[row].load(replay.alarms)
        return False

    def _items(self, row: int, block: Block, logits: NDArray[np.float32] | None) -> list[Decision | Event]:
        """The events and the decision of a block."""
        out: list[Decision | Event] = [*block.events]
        if block.restart or block.silent:
            self._signal_from[row] = 0
            out += self._lost(row, block.time)
        if logits is not None:
            out += self._decide(row, block, logits)
        return out

    def _open_front(self, row: int) -> FrontEnd:
        if not 0 <= row < len(self.fronts):
            raise InputError(f"row is {row}, expected 0 to {len(self.fronts) - 1}")
        if self._ended[row]:
            raise StateError(f"{self.fronts[row].name} has ended; make a new stream for further samples")
        return self.fronts[row]

    def _rows_to_go(self) -> list[int]:
        """The rows whose first blocks go into one call of the network."""
        waiting = [front.ready for front in self.fronts]
        rows = [row for row, blocks in enumerate(waiting) if blocks]
        if not rows or not self.lockstep:
            return rows
        if any(not blocks and not ended for blocks, ended in zip(waiting, self._ended, strict=True)):
            return []
        lengths = [waiting[row][0].length for row in rows]
        longest = max(lengths)
        # Blocks have one length, unless a reset that is no multiple of the decisions' interval cuts them.
        return [row for row, length in zip(rows, lengths, strict=True) if length in (0, longest)]

    def _blocks_together(self, rows: Sequence[int]) -> int:
        """How many consecutive blocks of each row give the same results as one long block."""
        others = [row for row in range(len(self.fronts)) if row not in rows]
        if self.lockstep and any(self.fronts[row].ready or not self._ended[row] for row in others):
            return 1  # which rows wait has to be decided again after each block
        count = steps = 0
        for blocks in zip(*(self.fronts[row].ready for row in rows), strict=False):
            lengths = {block.length for block in blocks}
            steps += max(lengths)
            if count and (
                len(lengths) > 1 or 0 in lengths or steps > _STEPS_TOGETHER or any(b.restart for b in blocks)
            ):
                break
            count += 1
            if 0 in lengths or any(block.reset for block in blocks):
                break
        return count

    def _run(self, runs: Mapping[int, list[Block]]) -> dict[int, NDArray[np.float32]]:
        if not runs:
            return {}
        # A source that has ended may still have blocks, of another length than these.
        ended = zip(self._ended, self.fronts, strict=True)
        return self._networks.run(
            runs, [row for row, (over, front) in enumerate(ended) if over and not front.ready]
        )

    def _decide(self, row: int, block: Block, logits: NDArray[np.float32]) -> list[Decision | Event]:
        front, alarms = self.fronts[row], self._alarms[row]
        timing = None
        if block.arrived is not None:
            latency = time.monotonic() - block.arrived
            timing = Timing(latency + front.delay, latency, time.time())
        steps = block.steps
        if self._pool.reset is not None:
            steps = (steps - 1) % self._pool.reset + 1
        seen = self._pool.seen(steps, self._own) * self._step_seconds
        probabilities: dict[str, float] | None = None
        warming, events = False, list[Event]()
        if block.usable < self._usable:
            self._signal_from[row] = block.steps
            events = self._lost(row, block.time)
        else:
            chances = self._probabilities(logits.astype(np.float64)).tolist()
            probabilities = dict(zip(self.labels, chances, strict=True))
            warming = min(steps, block.steps - self._signal_from[row]) < self._alarm_after
            for kind, label in [] if warming else alarms.update(probabilities):
                details: dict[str, Any] = {"label": label, "probability": round(probabilities[label], 6)}
                if kind == "onset" and block.quality:
                    details["quality"] = block.quality
                events.append(Event(front.name, block.time, kind, details))
        carry = Carry(block.origin, block.steps, alarms.save())
        decision = Decision(
            front.name, block.time, seen, probabilities, block.quality, logits, timing, warming,
            replay_from(block.origin, block.origin + front.samples(block.steps), self.replay_samples[row]),
            carry.to_bytes(self._settings[row]),
        )  # fmt: skip
        return [decision, *events]

    def _lost(self, row: int, at: float) -> list[Event]:
        """The running alarms of a source end, for its signal has ended."""
        return [
            Event(self.fronts[row].name, at, "lost", {"label": label}) for label in self._alarms[row].end()
        ]

    def save(self) -> StreamsState:
        """Everything that the next decisions depend on."""
        return StreamsState(
            networks=self._networks.save(),
            fronts=tuple(front.save() for front in self.fronts),
            alarms=tuple(alarms.save() for alarms in self._alarms),
            signal_from=tuple(self._signal_from),
            replays=tuple(self._replays),
            ended=tuple(self._ended),
        )

    def load(self, saved: StreamsState) -> None:
        """Continue from :meth:`save` of streams made with the same arguments. Raises StateError."""
        parts = (saved.fronts, saved.alarms, saved.signal_from, saved.replays, saved.ended)
        counts = {len(part) for part in parts}
        if counts != {len(self.fronts)}:
            raise StateError(f"the state has {len(saved.fronts)} sources, expected {len(self.fronts)}")
        self._networks.load(saved.networks)
        for front, state, ended in zip(self.fronts, saved.fronts, saved.ended, strict=True):
            front.load(state, ended=ended)
        for alarms, on in zip(self._alarms, saved.alarms, strict=True):
            alarms.load(on)
        self._signal_from, self._replays = list(saved.signal_from), list(saved.replays)
        self._ended = list(saved.ended)


def preprocessing_of(bundle: Bundle) -> Preprocessing:
    """A bundle's preprocessing. Raises InputError unless the bundle classifies signals."""
    model = bundle.manifest.model
    if model.shifts or model.encoder != "linear":
        raise InputError(
            f"{bundle.path}: the network is for {model.task} of {model.encoder} inputs, expected a "
            "classifier of signals"
        )
    if bundle.preprocessing is None:
        raise InputError(
            f"{bundle.path}: has no card, so its leads, unit and rate are unknown; export it with --card"
        )
    return bundle.preprocessing
