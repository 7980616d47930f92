"""Measure a bundle on data: compute the predictions of all records, then a metric of the predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import InputError
from multires_edge.format.figures import Interval
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.evaluation.dataset import Dataset
from multires_edge.runtime.evaluation.pieces import RecordPieces
from multires_edge.runtime.evaluation.scoring import bootstrap, interval, metric_for
from multires_edge.runtime.stream import Stream

GRAPHS = ("full", "step")
STATES = ("reset", "carried")

# The numbers of some records, and their outputs.
Outputs = Iterator[tuple[NDArray[np.intp], NDArray[Any]]]


@dataclass(frozen=True)
class EvaluationOptions:
    """How a bundle runs on data.

    ``graph`` is "full" or "step". ``state`` "reset" starts a stream at every record. "carried" runs ``batch``
    streams, each without reset through its own consecutive part of the records. ``batch`` defaults to 16
    records, with "carried" to one stream. ``resamples`` is the number of bootstrap resamples for the
    intervals, if there shall be intervals. ``threads`` are those of the backend. Raises InputError.
    """

    graph: str = "full"
    backend: str = "auto"
    state: str = "reset"
    batch: int | None = None
    resamples: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.graph not in GRAPHS:
            raise InputError(f"graph is {self.graph!r}, expected {' or '.join(GRAPHS)}")
        if self.state not in STATES:
            raise InputError(f"state is {self.state!r}, expected {' or '.join(STATES)}")


@dataclass(frozen=True)
class Evaluation:
    """The value of a metric for one precision. ``predictions`` has one row per record.

    All precisions after the first have ``difference``, their value minus that of the first, and
    ``relative_error``, sum |y - y_first| / sum |y_first| over all outputs. With a bootstrap, ``interval``
    contains 95 % of the resampled values, ``class_intervals`` those of each class, and
    ``difference_interval`` 95 % of their differences.
    """

    metric: str
    value: float
    by_class: dict[str, float] | None
    predictions: NDArray[Any]
    precision: str
    difference: float | None = None
    relative_error: float | None = None
    interval: Interval | None = None
    difference_interval: Interval | None = None
    class_intervals: dict[str, Interval] | None = None


def evaluate(
    bundle: Bundle,
    data: Dataset,
    options: EvaluationOptions | None = None,
    *,
    precision: str = "fp32",
    progress: Callable[[str], None] = lambda _: None,
    **keywords: Any,
) -> Evaluation:
    """Measure a bundle on data in one precision. :func:`compare` describes the arguments."""
    return compare(bundle, data, [precision], options, progress=progress, **keywords)[0]


def compare(
    bundle: Bundle,
    data: Dataset,
    precisions: Sequence[str],
    options: EvaluationOptions | None = None,
    *,
    progress: Callable[[str], None] = lambda _: None,
    **keywords: Any,
) -> list[Evaluation]:
    """Measure precisions of a bundle on the same data, and compare each with the first.

    The metric of an autoregressive bundle is bits per dimension. That of a classifier is the accuracy for
    labels (n,), the numbers of the true classes, and the mean AUROC of the classes for labels (n, classes) of
    0 and 1. A classifier with an output at every step takes labels (n, time) or (n, classes, time), and its
    metric is over all steps with a label. ``options`` or keyword arguments are those of
    :class:`EvaluationOptions`. Raises DataError or InputError if the data or the options do not fit.
    """
    options = replace(options or EvaluationOptions(), **keywords)
    metric = metric_for(bundle.manifest.network, bundle.labels, data)
    metric.check_defined()
    carried = options.state == "carried"
    batch = options.batch or 16
    if carried:
        batch = min(options.batch or 1, len(data))
        _check_carried(bundle, data, options.graph, batch)

    def outputs(precision: str) -> Outputs:
        if options.graph == "full":
            return _full_outputs(bundle, data, options.backend, precision, batch, options.threads)
        return _step_outputs(bundle, data, options.backend, precision, batch, carried, options.threads)

    parts: list[list[NDArray[Any]]] = [[] for _ in precisions]
    order: list[NDArray[np.intp]] = []
    errors, total = np.zeros(len(precisions)), 0.0
    # All precisions run on the same records in turn, so the outputs need not stay in memory.
    for together in zip(*map(outputs, precisions), strict=True):
        rows, reference = together[0]
        total += float(np.abs(reference).sum(dtype=np.float64))
        for k, (_, y) in enumerate(together):
            errors[k] += float(np.abs(y - reference).sum(dtype=np.float64))
            parts[k].append(metric.predictions(y, data.inputs[rows]))
        order.append(rows)
        progress(f"record {sum(map(len, order))} of {len(data)}")
    original = np.argsort(np.concatenate(order))
    predictions = [np.concatenate(part)[original] for part in parts]
    values = [metric.value(each) for each in predictions]
    drawn = None
    if options.resamples:
        progress("resampling")
        drawn = bootstrap(metric, predictions, options.resamples)
    results = []
    for k, precision in enumerate(precisions):
        result = Evaluation(
            metric.name, values[k], metric.by_class(predictions[k]), predictions[k], precision
        )
        if k:
            error = float(errors[k] / (total or 1.0))
            result = replace(result, difference=values[k] - values[0], relative_error=error)
        results.append(result if drawn is None else _with_intervals(result, drawn[:, k], drawn[:, 0]))
    return results


def _with_intervals(result: Evaluation, drawn: NDArray[np.float64], first: NDArray[np.float64]) -> Evaluation:
    """``drawn`` (resamples, values) are its values, ``first`` those of the first precision."""
    classes, difference = None, None
    if result.by_class is not None:
        classes = {name: interval(drawn[:, i]) for i, name in enumerate(result.by_class, 1)}
    if result.difference is not None:
        difference = interval(drawn[:, 0] - first[:, 0])
    return replace(
        result, interval=interval(drawn[:, 0]), class_intervals=classes, difference_interval=difference
    )


def _check_carried(bundle: Bundle, data: Dataset, graph: str, batch: int) -> None:
    """Raise InputError if the metric would have no meaning."""
    if graph != "step":
        raise InputError("state 'carried' needs streams, but the full graph has no state: give graph 'step'")
    steps = data.inputs.shape[-1]
    pooling = bundle.manifest.pooling
    if pooling is not None and pooling.window is None:
        raise InputError(
            f"state 'carried' with {pooling} pooling: a record's logits would include all records before it; "
            f"reset the state, or export with --pool window:N, N up to {steps}"
        )
    shortest = steps if data.lengths is None else int(data.lengths.min())
    if pooling is not None and pooling.seen(shortest + 1) > shortest:
        raise InputError(
            f"state 'carried' with {pooling}, longer than a record of {shortest} steps: its logits would "
            "include the record before it; reset the state, or export a shorter window"
        )
    if batch > 1 and data.lengths is not None:
        raise InputError("state 'carried': records of different lengths cannot share a batch; give batch 1")
    if batch > 1 and isinstance(data.inputs, RecordPieces):
        raise InputError("state 'carried': the recordings of a folder are read in order; give batch 1")


def _full_outputs(
    bundle: Bundle, data: Dataset, backend: str, precision: str, batch: int, threads: int | None
) -> Outputs:
    """Outputs of the full graph: logits, or parameters of every step."""
    full = bundle.full(backend=backend, precision=precision, threads=threads)
    takes_lengths = "lengths" in (tensor.name for tensor in bundle.manifest.graph("full", precision).inputs)
    for rows in _batches(len(data), batch):
        x = data.inputs[rows]
        if data.lengths is None or bundle.manifest.network.per_step:
            yield rows, full(x)
        elif takes_lengths:
            yield rows, full(x, data.lengths[rows])
        else:  # this graph pools over every step, so records of one length run together
            lengths = data.lengths[rows]
            for length in np.unique(lengths):
                yield rows[lengths == length], full(x[lengths == length][..., :length])


def _step_outputs(
    bundle: Bundle,
    data: Dataset,
    backend: str,
    precision: str,
    batch: int,
    carried: bool,
    threads: int | None,
) -> Outputs:
    """Outputs of streams: logits at each row's last step, or parameters of every step."""
    stream: Stream | None = None
    model = bundle.manifest.network
    before: NDArray[Any] | None = None
    for rows in _carried_rows(len(data), batch) if carried else _batches(len(data), batch):
        x = data.inputs[rows]
        lengths = np.full(len(x), x.shape[-1]) if data.lengths is None else data.lengths[rows]
        if carried:
            x = x[..., : lengths.max()]  # padding must not reach the next record's state
            missing = batch - len(x)
            if missing:  # streams whose part has ended
                x = np.concatenate([x, np.repeat(x[:1], missing, axis=0)])
        if stream is None or stream.batch != len(x):
            stream = bundle.stream(len(x), backend=backend, precision=precision, threads=threads or 1)
        if not carried or before is None:
            stream.reset()
            before = np.zeros_like(x[..., :1])
        # The input of a step is the pixel before the pixel that it predicts.
        y = stream.run(np.concatenate([before, x[..., :-1]], axis=-1) if model.shifts else x)
        before = x[..., -1:]
        if model.per_step:  # padding that did not reach the stream has no outputs
            padding = data.inputs.shape[-1] - y.shape[-1]
            yield rows, np.pad(y[: len(rows)], ((0, 0), (0, 0), (0, padding)))
        else:
            yield rows, y[np.arange(len(rows)), :, lengths - 1]


def _batches(count: int, batch: int) -> Iterator[NDArray[np.intp]]:
    for start in range(0, count, batch):
        yield np.arange(start, min(start + batch, count))


def _carried_rows(count: int, batch: int) -> Iterator[NDArray[np.intp]]:
    """The record numbers of all streams in turn. Longer parts come first, so the last streams end first."""
    parts = np.array_split(np.arange(count), batch)
    for k in range(len(parts[0])):
        yield np.array([part[k] for part in parts if k < len(part)])
