"""How accurate and how fast the decisions of a stream are: the figures that a manufacturer must disclose.

Every recording runs through :class:`EcgStream` as from a device, with its own rate and leads. The figures
hold for these recordings, not for other patients, and certify nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, InputError
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.ecg.decision import Decision
from multires_edge.runtime.ecg.settings import StreamOptions
from multires_edge.runtime.ecg.sources.protocol import Samples
from multires_edge.runtime.ecg.streams import EcgStream
from multires_edge.runtime.evaluation.diagnostic import DiagnosticAccuracy, Rate, youden_threshold
from multires_edge.runtime.evaluation.metrics import auroc
from multires_edge.runtime.evaluation.recordings import LabelledRecordings, Recording

NOTICE = (
    "Figures of these recordings with these settings. They claim no medical certification, and predictive "
    "values hold only where the classes are as frequent as here."
)
Progress = Callable[[str], None]
# Seconds by which the rounding of times may differ.
_SAME_TIME = 1e-9


@dataclass(frozen=True)
class Delays:
    """Seconds (n,) of the changes that a decision followed, out of ``total``."""

    seconds: NDArray[np.float64]
    total: int

    def to_json(self) -> dict[str, Any]:
        half, most = np.percentile(self.seconds, [50, 95]) if len(self.seconds) else (None, None)
        return {
            "median": None if half is None else float(half),
            "p95": None if most is None else float(most),
            "count": len(self.seconds),
            "total": self.total,
        }


@dataclass(frozen=True)
class ClassFigures:
    """The figures of one label. ``auroc`` is None if all recordings have the same label."""

    threshold: float
    accuracy: DiagnosticAccuracy
    auroc: float | None
    onset: Delays
    offset: Delays


@dataclass(frozen=True)
class Agreement:
    """The last decisions of a precision, compared with those of the first precision."""

    same: Rate
    mean_difference: float
    largest_difference: float


@dataclass(frozen=True)
class Performance:
    """``first``: seconds until the first decision. ``steady``: until all are what they are at the end."""

    recordings: int
    by_class: dict[str, ClassFigures]
    first: float
    steady: Delays
    agreement: dict[str, Agreement]

    def to_json(self) -> dict[str, Any]:
        classes = {
            label: {
                "threshold": figures.threshold,
                **{name: rate.to_json() for name, rate in vars(figures.accuracy).items()},
                "auroc": figures.auroc,
                "onset_delay": figures.onset.to_json(),
                "offset_delay": figures.offset.to_json(),
            }
            for label, figures in self.by_class.items()
        }
        return {
            "recordings": self.recordings,
            "by_class": classes,
            "first_decision": self.first,
            "steady_decision": self.steady.to_json(),
            "agreement": {
                name: {
                    "decisions": each.same.to_json(),
                    "mean_difference": each.mean_difference,
                    "largest_difference": each.largest_difference,
                }
                for name, each in self.agreement.items()
            },
            "notice": NOTICE,
        }


def choose_thresholds(
    bundle: Bundle, data: LabelledRecordings, options: StreamOptions | None = None
) -> dict[str, float]:
    """Youden's threshold of each label, from the last decision of each recording. Raises DataError."""
    last = _Alone(bundle, data.recordings, options or StreamOptions(), "choosing thresholds").last
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
    options = replace(options or StreamOptions(), precision=precisions[0])
    alone = _Alone(bundle, data.recordings, options, precisions[0], limits, progress)
    last = alone.last
    onset, offset = _changes(bundle, data, limits, options, progress)
    by_class = {}
    for i, label in enumerate(labels):
        accuracy = DiagnosticAccuracy.of(last[:, i] >= limits[i], data.positive[:, i])
        both = 0 < data.positive[:, i].sum() < len(last)
        area = auroc(last[:, i], data.positive[:, i]) if both else None
        by_class[label] = ClassFigures(float(limits[i]), accuracy, area, onset[i], offset[i])
    agreement = {}
    for name in precisions[1:]:
        in_precision = replace(options, precision=name)
        other = _Alone(bundle, data.recordings, in_precision, name, limits, progress).last
        same, off = (other >= limits) == (last >= limits), np.abs(other - last)
        agreement[name] = Agreement(Rate(int(same.sum()), same.size), float(off.mean()), float(off.max()))
    steady = Delays(np.array(alone.steady), len(alone.steady))
    return Performance(len(data.recordings), by_class, max(alone.first), steady, agreement)


class _Alone:
    """Every recording on a stream of its own.

    ``last`` (recordings, labels) are the probabilities of the last decisions. ``first`` and ``steady`` are
    the seconds until the first decision, and until all decisions are what they are at the end.
    """

    def __init__(
        self,
        bundle: Bundle,
        recordings: Sequence[Recording],
        options: StreamOptions,
        what: str,
        limits: NDArray[np.float64] | float = 0.5,
        progress: Progress = lambda _: None,
    ) -> None:
        self.first: list[float] = []
        self.steady: list[float] = []
        rows = []
        for i, recording in enumerate(recordings):
            progress(f"{what}: recording {i + 1} of {len(recordings)}")
            stream = _stream(bundle, recording, options)
            before: NDArray[np.bool_] | None = None
            for decision in _decisions(stream, [recording]):
                probabilities = _probabilities(decision)
                decided = probabilities >= limits
                time = decision.time + stream.delay
                if before is None:
                    self.first.append(time)
                if before is None or (decided != before).any():
                    since = time
                before = decided
            if before is None:
                raise DataError(f"{recording.signal.name}: too short for one decision; lower --every")
            self.steady.append(since)
            rows.append(probabilities)
        self.last = np.array(rows)


@dataclass
class _Change:
    """A recording after another on one stream, from ``start`` to ``end`` seconds of the stream.

    ``right_since`` is the delay after which a label's decisions were right and stayed so.
    """

    before: NDArray[np.bool_]
    now: NDArray[np.bool_]
    start: float
    end: float = np.inf
    decided: bool = False

    def __post_init__(self) -> None:
        self.right_since: list[float | None] = [None] * len(self.now)

    def add(self, decided: NDArray[np.bool_], time: float) -> None:
        self.decided = True
        for c, right in enumerate((decided == self.now).tolist()):
            if not right:
                self.right_since[c] = None
            elif self.right_since[c] is None:
                self.right_since[c] = time - self.start


def _changes(
    bundle: Bundle,
    data: LabelledRecordings,
    limits: NDArray[np.float64],
    options: StreamOptions,
    progress: Progress,
) -> tuple[list[Delays], list[Delays]]:
    """Delays of onsets and offsets by label, of recordings that follow each other on one stream.

    The stream is never restarted, as with patients on a monitor. If a recording has a label that the
    recording before did not have, the onset's delay runs from its start until the decision is a yes and
    stays so to its end; likewise the offset's. Recordings of one device (leads, rate, unit) follow each
    other, in a random order that is always the same.
    """
    order = np.random.default_rng(0).permutation(len(data.recordings)).tolist()
    device = [_device(recording) for recording in data.recordings]
    order.sort(key=lambda i: device[i])
    came: list[list[list[float]]] = [[[] for _ in limits] for _ in range(2)]
    total = np.zeros((2, len(limits)), int)
    for _, group in groupby(order, key=lambda i: device[i]):
        for change in _on_one_stream(bundle, data, list(group), limits, options, progress):
            for c in np.flatnonzero(change.before != change.now):
                kind = 0 if change.now[c] else 1
                total[kind, c] += 1
                if (delay := change.right_since[c]) is not None:
                    came[kind][c].append(delay)
    onset, offset = (
        [Delays(np.array(seconds), int(n)) for seconds, n in zip(came[kind], total[kind], strict=True)]
        for kind in range(2)
    )
    return onset, offset


def _on_one_stream(
    bundle: Bundle,
    data: LabelledRecordings,
    rows: Sequence[int],
    limits: NDArray[np.float64],
    options: StreamOptions,
    progress: Progress,
) -> Iterator[_Change]:
    """The changes between recordings ``rows``, without recordings in which no decision was due."""
    stream = _stream(bundle, data.recordings[rows[0]], options)
    waiting: deque[_Change] = deque()  # decisions come later than the samples that they are about

    def recordings() -> Iterator[Recording]:
        end = 0.0
        before = data.positive[rows[0]]
        for row in rows:
            recording, now = data.recordings[row], data.positive[row]
            progress(f"changes: {recording.signal.name}")
            waiting.append(_Change(before, now, end))
            yield recording
            end += recording.length / recording.signal.rate
            waiting[-1].end = end
            before = now

    for decision in _decisions(stream, recordings()):
        while decision.time > waiting[0].end + _SAME_TIME and len(waiting) > 1:
            change = waiting.popleft()
            if change.decided:
                yield change
        waiting[0].add(_probabilities(decision) >= limits, decision.time + stream.delay)
    yield from (change for change in waiting if change.decided)


def _decisions(stream: EcgStream, recordings: Iterable[Recording]) -> Iterator[Decision]:
    """The decisions on recordings that follow each other."""
    for recording in recordings:
        for part in recording.parts():
            if isinstance(part, Samples):
                yield from stream.feed(part.values)
            else:
                yield from stream.missing(part.count)
    yield from stream.finish()


def _probabilities(decision: Decision) -> NDArray[np.float64]:
    return np.array(list(decision.probabilities.values()))


def _stream(bundle: Bundle, recording: Recording, options: StreamOptions) -> EcgStream:
    signal = recording.signal
    return EcgStream(
        bundle, options=options, leads=signal.leads, rate=signal.rate, unit=signal.unit, name=signal.name
    )


def _device(recording: Recording) -> tuple[str, ...]:
    signal = recording.signal
    units = (signal.unit,) if isinstance(signal.unit, str) else tuple(signal.unit)
    return (f"{signal.rate:g}", *signal.leads, *units)
