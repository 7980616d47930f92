"""How accurate and how fast the decisions of a stream are: the figures that a manufacturer must disclose.

Every recording runs through :class:`EcgStream` as from a device, with its own rate and leads. The figures
hold for these recordings, not for other patients, and certify nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, InputError
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.ecg.decision import Decision
from multires_edge.runtime.ecg.settings import StreamOptions
from multires_edge.runtime.ecg.sources.protocol import Samples, SignalSpec
from multires_edge.runtime.ecg.stream import EcgStream
from multires_edge.runtime.evaluation.diagnostic import (
    Rate,
    auroc,
    auroc_interval,
    diagnostic_rates,
    youden_threshold,
)
from multires_edge.runtime.evaluation.pieces import Recording
from multires_edge.runtime.evaluation.recordings import LabelledRecordings

NOTICE = (
    "Figures of these recordings with these settings. They claim no medical certification, and predictive "
    "values hold only where the classes are as frequent as here."
)
Progress = Callable[[str], None]
# Seconds by which the rounding of times may differ.
_SAME_TIME = 1e-9


@dataclass(frozen=True)
class Delays:
    """Percentiles in seconds of the ``count`` changes that a decision followed, out of ``total``."""

    median: float | None
    p95: float | None
    count: int
    total: int

    @classmethod
    def of(cls, seconds: Sequence[float], total: int) -> Delays:
        half, most = np.percentile(seconds, [50, 95]).tolist() if seconds else (None, None)
        return cls(half, most, len(seconds), total)


@dataclass(frozen=True)
class ClassFigures:
    """The figures of one label. ``auroc`` is None if all recordings have the same label.

    ``auroc_interval`` is that of :func:`auroc_interval`, with 95 %.
    """

    threshold: float
    sensitivity: Rate
    specificity: Rate
    positive_predictive_value: Rate
    negative_predictive_value: Rate
    auroc: float | None
    auroc_interval: tuple[float, float] | None
    onset_delay: Delays
    offset_delay: Delays


@dataclass(frozen=True)
class Agreement:
    """The last decisions of a precision, compared with those of the first precision."""

    decisions: Rate
    mean_difference: float
    largest_difference: float


@dataclass(frozen=True)
class Performance:
    """All figures, as they are printed in JSON.

    ``first_decision``: seconds until the first decision. ``steady_decision``: until all are what they are at
    the end.
    """

    recordings: int
    by_class: dict[str, ClassFigures]
    first_decision: float
    steady_decision: Delays
    agreement: dict[str, Agreement]
    notice: str = NOTICE


def choose_thresholds(
    bundle: Bundle, data: LabelledRecordings, options: StreamOptions | None = None
) -> dict[str, float]:
    """Youden's threshold of each label, from the last decision of each recording. Raises DataError."""
    last = _Runs(bundle, data, options or StreamOptions()).alone("choosing thresholds").last
    chosen = {}
    for i, label in enumerate(bundle.class_names):
        try:
            chosen[label] = youden_threshold(last[:, i], data.positive[:, i])
        except DataError as error:
            raise DataError(f"{data.path}: {label}: {error}") from error
    return chosen


def assess(
    bundle: Bundle,
    data: LabelledRecordings,
    thresholds: Mapping[str, float],
    options: StreamOptions | None = None,
    *,
    precisions: Sequence[str] = ("fp32",),
    progress: Progress = lambda _: None,
) -> Performance:
    """All figures at ``thresholds`` by label. The first of ``precisions`` is compared with the others.

    Memory does not grow with the length of the recordings. Raises DataError for recordings that do not fit,
    InputError for thresholds of other labels.
    """
    labels = bundle.class_names
    if set(thresholds) != set(labels):
        raise InputError(f"thresholds are for {', '.join(thresholds)}, the labels are {', '.join(labels)}")
    limits = np.array([thresholds[label] for label in labels])
    first, *others = [
        _Runs(bundle, data, replace(options or StreamOptions(), precision=name), limits, progress)
        for name in precisions
    ]
    alone = first.alone(precisions[0])
    last = alone.last
    onset, offset = first.changes()
    by_class = {}
    for i, label in enumerate(labels):
        positive = data.positive[:, i]
        rates = diagnostic_rates(last[:, i] >= limits[i], positive)
        area, within = None, None
        if 0 < positive.sum() < len(last):
            area, within = auroc(last[:, i], positive), auroc_interval(last[:, i], positive)
        by_class[label] = ClassFigures(float(limits[i]), *rates, area, within, onset[i], offset[i])
    agreement = {}
    for name, runs in zip(precisions[1:], others, strict=True):
        other = runs.alone(name).last
        same, off = (other >= limits) == (last >= limits), np.abs(other - last)
        agreement[name] = Agreement(Rate.of(int(same.sum()), same.size), float(off.mean()), float(off.max()))
    steady = Delays.of(alone.steady, len(alone.steady))
    return Performance(len(data.recordings), by_class, max(alone.first), steady, agreement)


@dataclass(frozen=True)
class _Alone:
    """The decisions on recordings that each had a stream of their own.

    ``last`` (recordings, labels) are the probabilities of the last decisions. ``first`` and ``steady`` are
    the seconds until the first decision, and until all decisions are what they are at the end.
    """

    last: NDArray[np.float64]
    first: list[float]
    steady: list[float]


@dataclass(frozen=True)
class _Runs:
    """Runs recordings through streams; a decision is yes from ``limits`` upwards."""

    bundle: Bundle
    data: LabelledRecordings
    options: StreamOptions
    limits: NDArray[np.float64] | float = 0.5
    progress: Progress = lambda _: None

    def alone(self, what: str) -> _Alone:
        """Run each recording on a stream of its own. Raises DataError for one without a decision."""
        rows, first, steady = [], [], []
        for i, recording in enumerate(self.data.recordings):
            self.progress(f"{what}: recording {i + 1} of {len(self.data.recordings)}")
            before: NDArray[np.bool_] | None = None
            for _, time, probabilities in self._decisions(recording.signal, [recording]):
                decided = probabilities >= self.limits
                if before is None:
                    first.append(time)
                if before is None or (decided != before).any():
                    since = time
                before = decided
            if before is None:
                raise DataError(
                    f"{recording.signal.name}: no decision: too short, or no signal; lower --every"
                )
            steady.append(since)
            rows.append(probabilities)
        return _Alone(np.array(rows), first, steady)

    def changes(self) -> tuple[list[Delays], list[Delays]]:
        """Delays of onsets and offsets by label, of recordings that follow each other on one stream.

        The stream is never restarted, as with patients on a monitor. If a recording has a label that the
        recording before did not have, the onset's delay runs from its start until the decision is a yes and
        stays so to its end; likewise the offset's. Recordings of one device (leads, rate, unit) follow each
        other, in a random order that is always the same.
        """
        positive, count = self.data.positive, len(self.bundle.class_names)
        order = np.random.default_rng(0).permutation(len(positive)).tolist()
        device = [_device(recording) for recording in self.data.recordings]
        order.sort(key=lambda i: device[i])
        came: tuple[list[list[float]], ...] = ([[] for _ in range(count)], [[] for _ in range(count)])
        total = np.zeros((2, count), int)
        for _, group in groupby(order, key=lambda i: device[i]):
            rows = list(group)
            delays = self._on_one_stream(rows)
            for before, now in pairwise(rows):
                if now not in delays:
                    continue  # no decision was due
                for c in np.flatnonzero(positive[before] != positive[now]):
                    kind = 0 if positive[now, c] else 1
                    total[kind, c] += 1
                    if not np.isnan(delay := delays[now][c]):
                        came[kind][c].append(float(delay))
        onset, offset = (list(map(Delays.of, came[kind], total[kind].tolist())) for kind in range(2))
        return onset, offset

    def _on_one_stream(self, rows: Sequence[int]) -> dict[int, NDArray[np.float64]]:
        """The delays (labels,) by recording, of those of ``rows`` in which a decision was due.

        A delay is the time from the recording's start until its decisions were right and stayed so, NaN if
        the last one was wrong.
        """
        recordings = [self.data.recordings[row] for row in rows]
        ends = np.cumsum([recording.length / recording.signal.rate for recording in recordings])

        def in_turn() -> Iterator[Recording]:
            for recording in recordings:
                self.progress(f"changes: {recording.signal.name}")
                yield recording

        delays: dict[int, NDArray[np.float64]] = {}
        for end, time, probabilities in self._decisions(recordings[0].signal, in_turn()):
            i = min(int(np.searchsorted(ends, end - _SAME_TIME)), len(rows) - 1)
            right = (probabilities >= self.limits) == self.data.positive[rows[i]]
            delay = delays.setdefault(rows[i], np.full(len(right), np.nan))
            delay[right & np.isnan(delay)] = time - (ends[i - 1] if i else 0.0)
            delay[~right] = np.nan
        return delays

    def _decisions(
        self, signal: SignalSpec, recordings: Iterable[Recording]
    ) -> Iterator[tuple[float, float, NDArray[np.float64]]]:
        """The decisions on recordings that follow each other on one stream.

        Yields the end of a decision's samples, the time of the decision, and the probabilities (labels,).
        """
        stream = EcgStream(
            self.bundle, options=self.options,
            leads=signal.leads, rate=signal.rate, unit=signal.unit, name=signal.name,
        )  # fmt: skip

        def decided() -> Iterator[Decision]:
            for recording in recordings:
                for part in recording.parts():
                    if isinstance(part, Samples):
                        yield from stream.feed(part.values)
                    else:
                        yield from stream.missing(part.count)
            yield from stream.finish()

        for decision in decided():
            if decision.probabilities is not None:
                probabilities = np.array(list(decision.probabilities.values()))
                yield decision.time, decision.time + stream.delay, probabilities


def _device(recording: Recording) -> tuple[str, ...]:
    signal = recording.signal
    units = (signal.unit,) if isinstance(signal.unit, str) else tuple(signal.unit)
    return (f"{signal.rate:g}", *signal.leads, *units)
