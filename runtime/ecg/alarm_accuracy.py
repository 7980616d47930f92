"""What the decisions of a stream are worth: the figures that a manufacturer must disclose.

Every recording goes through :class:`EcgStream` as from a device, at its own rate and by its own leads.
These are figures of the recordings given, not of patients elsewhere, and certify nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, InputError
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.ecg.recordings import LabelledRecordings, Recording
from multires_edge.runtime.ecg.streams import EcgStream
from multires_edge.runtime.evaluation.diagnostic import DiagnosticAccuracy, Rate, youden_threshold
from multires_edge.runtime.evaluation.metrics import auroc

NOTICE = (
    "Figures of these recordings with these settings. They claim no medical certification, and predictive "
    "values hold only where the classes are as frequent as here."
)
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Delays:
    """Seconds (n,) of those that came, out of ``total``."""

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
    """Of one label. ``onset`` and ``offset``: see :func:`_changes`; None where nothing could follow."""

    threshold: float
    accuracy: DiagnosticAccuracy
    auroc: float | None
    onset: Delays
    offset: Delays


@dataclass(frozen=True)
class Agreement:
    """Last decisions of a precision against float32's: how many agree, and probabilities' differences."""

    same: Rate
    mean_difference: float
    largest_difference: float


@dataclass(frozen=True)
class Performance:
    """``first`` seconds until there is a decision, ``steady`` until all stay as they are at the end."""

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


def choose_thresholds(bundle: Bundle, data: LabelledRecordings, **options: Any) -> dict[str, float]:
    """Youden's thresholds of the last decision of each recording, by label. Raises DataError."""
    scores = _alone(bundle, data.recordings, options, "choosing thresholds")[0]
    last = np.array([p[-1] for p in scores])
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
    *,
    precisions: Sequence[str] = ("fp32",),
    progress: Progress = lambda _: None,
    **options: Any,
) -> Performance:
    """All figures, at ``thresholds`` by label; the first of ``precisions`` is what the others agree with.

    ``options`` are those of :class:`EcgStream`: pool, every, gap, allow_missing, rename, backend. Raises
    DataError for recordings that do not fit, InputError for thresholds of other labels.
    """
    labels = bundle.class_names
    if set(thresholds) != set(labels):
        raise InputError(f"thresholds are for {', '.join(thresholds)}, the labels are {', '.join(labels)}")
    limits = np.array([thresholds[label] for label in labels])
    options["precision"] = precisions[0]
    alone, times, first = _alone(bundle, data.recordings, options, precisions[0], progress)
    last = np.array([p[-1] for p in alone])
    onset, offset = _changes(bundle, data, limits, options, progress)
    by_class = {}
    for i, label in enumerate(labels):
        accuracy = DiagnosticAccuracy.of(last[:, i] >= limits[i], data.positive[:, i])
        both = 0 < data.positive[:, i].sum() < len(last)
        area = auroc(last[:, i], data.positive[:, i]) if both else None
        by_class[label] = ClassFigures(float(limits[i]), accuracy, area, onset[i], offset[i])
    steady = [_steady(p >= limits, p[-1] >= limits, t) for p, t in zip(alone, times, strict=True)]
    agreement = {}
    for name in precisions[1:]:
        options["precision"] = name
        other = np.array([p[-1] for p in _alone(bundle, data.recordings, options, name, progress)[0]])
        same, off = (other >= limits) == (last >= limits), np.abs(other - last)
        agreement[name] = Agreement(Rate(int(same.sum()), same.size), float(off.mean()), float(off.max()))
    settled = Delays(np.array([t for t in steady if t is not None]), len(steady))
    return Performance(len(data.recordings), by_class, first, settled, agreement)


def _alone(
    bundle: Bundle,
    recordings: Sequence[Recording],
    options: Mapping[str, Any],
    what: str,
    progress: Progress = lambda _: None,
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]], float]:
    """Each recording from a fresh stream: probabilities (decisions, labels), when each decision can be
    had, and the longest wait for a first one."""
    chances, times = [], []
    for i, recording in enumerate(recordings):
        progress(f"{what}: recording {i + 1} of {len(recordings)}")
        stream = _stream(bundle, recording, options)
        decisions = stream.feed(recording.samples()) + stream.finish()
        if not decisions:
            raise DataError(f"{recording.signal.name}: too short for one decision; lower --every")
        chances.append(np.array([list(d.probabilities.values()) for d in decisions]))
        times.append(np.array([d.time + stream.delay for d in decisions]))
    return chances, times, max(float(t[0]) for t in times)


def _changes(
    bundle: Bundle, data: LabelledRecordings, limits: NDArray[Any], options: Any, progress: Progress
) -> tuple[list[Delays], list[Delays]]:
    """Recordings behind one another on one stream that nobody restarts, as patients on a monitor.

    Where a recording has a label that the one before had not, the onset's delay runs from its beginning
    until the decision is a yes and stays so to its end; likewise the offset's. Recordings of one device
    (leads, rate, unit) follow each other, in a random order that is always the same.
    """
    order = np.random.default_rng(0).permutation(len(data.recordings)).tolist()
    device = [_device(recording) for recording in data.recordings]
    order.sort(key=lambda i: device[i])
    came: list[list[list[float]]] = [[[] for _ in limits] for _ in range(2)]
    total = np.zeros((2, len(limits)), int)
    for _, group in groupby(order, key=lambda i: device[i]):
        rows = list(group)
        stream = _stream(bundle, data.recordings[rows[0]], options)
        decisions, ends = [], [0.0]
        for i in rows:
            recording = data.recordings[i]
            progress(f"changes: {recording.signal.name}")
            samples = recording.samples()
            decisions += stream.feed(samples)
            ends.append(ends[-1] + len(samples) / recording.signal.rate)
        decisions += stream.finish()
        chances = np.array([list(d.probabilities.values()) for d in decisions])
        times = np.array([d.time for d in decisions])
        cuts = np.searchsorted(times, np.array(ends) + 1e-9)
        for k in range(1, len(rows)):
            part = slice(cuts[k], cuts[k + 1])
            if part.start == part.stop:
                continue
            since = times[part] - ends[k] + stream.delay
            before, now = data.positive[rows[k - 1]], data.positive[rows[k]]
            for c in np.flatnonzero(before != now):
                kind = 0 if now[c] else 1
                total[kind, c] += 1
                reached = _steady(chances[part, c : c + 1] >= limits[c], now[c : c + 1], since)
                if reached is not None:
                    came[kind][c].append(reached)
    onset, offset = (
        [Delays(np.array(seconds), int(n)) for seconds, n in zip(came[kind], total[kind], strict=True)]
        for kind in range(2)
    )
    return onset, offset


def _steady(yes: NDArray[np.bool_], final: NDArray[np.bool_], times: NDArray[np.float64]) -> float | None:
    """When decisions (n, labels) are ``final`` and stay so, of ``times``; None if the last is not."""
    wrong = np.flatnonzero((yes != final).any(1))
    if not len(wrong):
        return float(times[0])
    return None if wrong[-1] == len(yes) - 1 else float(times[wrong[-1] + 1])


def _stream(bundle: Bundle, recording: Recording, options: Mapping[str, Any]) -> EcgStream:
    e = recording.signal
    return EcgStream(bundle, leads=e.leads, rate=e.rate, unit=e.unit, name=e.name, **options)


def _device(recording: Recording) -> tuple[str, ...]:
    e = recording.signal
    units = (e.unit,) if isinstance(e.unit, str) else tuple(e.unit)
    return (f"{e.rate:g}", *e.leads, *units)
