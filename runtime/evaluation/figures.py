"""Measure the figures of a bundle: its metric in each precision, and under field conditions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError
from multires_edge.base.installation import versions_of
from multires_edge.format.figures import ConditionFigures, Figure, Figures, PrecisionFigures
from multires_edge.format.specs import FileSpec
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.ecg.streams import preprocessing_of
from multires_edge.runtime.evaluation.dataset import Dataset, data_used
from multires_edge.runtime.evaluation.evaluate import Evaluation, EvaluationOptions, evaluate
from multires_edge.runtime.evaluation.field_conditions import field_conditions
from multires_edge.runtime.evaluation.pieces import Recording, RecordPieces
from multires_edge.runtime.evaluation.scoring import bootstrap, interval, metric_for

Progress = Callable[[str], None]


def figures_of(
    bundle: Bundle,
    data: Dataset,
    results: Sequence[Evaluation],
    options: EvaluationOptions,
    conditions: dict[str, ConditionFigures],
) -> Figures:
    """The figures of ``results``, which :func:`compare` measured, as evaluation.json has them."""
    manifest = bundle.manifest
    names = results[0].by_class
    positives = None
    if names is not None and data.labels is not None:
        each = np.moveaxis(np.asarray(data.labels), 1, 0).reshape(len(names), -1)
        positives = dict(zip(names, (each == 1).sum(1).tolist(), strict=True))
    precisions = {}
    for result in results:
        graph = manifest.graph(options.graph, result.precision)
        by_class, difference = None, None
        if result.by_class is not None:
            within = result.class_intervals or {}
            by_class = {name: Figure(value, within.get(name)) for name, value in result.by_class.items()}
        if result.difference is not None:
            difference = Figure(result.difference, result.difference_interval)
        precisions[result.precision] = PrecisionFigures(
            FileSpec(graph.file, graph.sha256),
            Figure(result.value, result.interval),
            by_class,
            difference,
            result.relative_error,
        )
    return Figures(
        checkpoint=manifest.source.sha256,
        pool=manifest.pool,
        preprocessing=manifest.preprocessing,
        data=data_used(data),
        positives=positives,
        graph=options.graph,
        backend=options.backend,
        state=options.state if options.graph == "step" else None,
        resamples=options.resamples,
        metric=results[0].metric,
        precisions=precisions,
        conditions=conditions,
        tools=versions_of("multires-edge", "numpy", "onnxruntime"),
    )


def under_field_conditions(
    bundle: Bundle,
    data: Dataset,
    recordings: Sequence[Recording],
    options: EvaluationOptions,
    *,
    precision: str = "fp32",
    progress: Progress = lambda _: None,
    **leads: Any,
) -> dict[str, ConditionFigures]:
    """Measure a bundle on recordings under each field condition, and without each channel.

    ``recordings`` are those that the rows of ``data`` are of; ``leads`` are arguments of
    :class:`RecordPieces`. Every recording goes through the front end of a stream. Raises DataError.
    """
    metric = metric_for(bundle.manifest.network, bundle.labels, data)
    card = preprocessing_of(bundle)
    steps = data.inputs.shape[-1]
    once = replace(options, resamples=None)

    def predictions(name: str, inputs: Any) -> NDArray[Any]:
        progress(f"{name}: {len(data)} records")
        return evaluate(bundle, replace(data, inputs=inputs), once, precision=precision).predictions

    found: dict[str, NDArray[Any]] = {}
    descriptions: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the data have given the same ones
        for condition in field_conditions(recordings):
            pieces = RecordPieces(condition.recordings, card, steps, **leads)
            if len(pieces) < len(data):
                raise DataError(f"{data.path}: has {len(data)} records, its recordings {len(pieces)}")
            found[condition.name] = predictions(condition.name, pieces.first(len(data)))
            descriptions[condition.name] = condition.description
        lost = [
            predictions(f"{name} lost", _Without(data.inputs, channel))
            for channel, name in enumerate(card.channels)
        ]
    everything = [*found.values(), *lost]
    values = np.array([metric.value(each) for each in everything])
    worst = np.min if metric.higher_is_better else np.max
    count = len(found)
    if len(lost) > 1:
        name = card.channels[int(np.argmax(values[count:] == worst(values[count:])))]
        why = f"one of {len(lost)} leads is not connected (--allow-missing)"
        descriptions["one lead lost, mean"] = f"{why}; the mean"
        descriptions["one lead lost, worst"] = f"{why}; the worst, here {name}"

    def rows(measured: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., measured) to (..., rows), of values or of their resamples."""
        of_lost = measured[..., count:]
        summary = [of_lost.mean(-1, keepdims=True), worst(of_lost, axis=-1, keepdims=True)]
        return np.concatenate([measured[..., :count], *(summary if len(lost) > 1 else [])], -1)

    row, resampled = rows(values), None
    if options.resamples:
        progress("resampling")
        resampled = rows(bootstrap(metric, everything, options.resamples)[..., 0])
    return {
        name: ConditionFigures(
            description,
            _figure(row[i], None if resampled is None else resampled[:, i]),
            _figure(row[i] - row[0], None if resampled is None else resampled[:, i] - resampled[:, 0]),
        )
        for i, (name, description) in enumerate(descriptions.items())
    }


def _figure(value: float, resampled: NDArray[np.float64] | None) -> Figure:
    return Figure(float(value), None if resampled is None else interval(resampled))


class _Without:
    """Inputs (n, channels, time) without a channel, which is zero for the network, as a missing lead is."""

    def __init__(self, inputs: Any, channel: int) -> None:
        self._inputs, self._channel, self.shape = inputs, channel, inputs.shape

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        without: NDArray[np.float32] = np.array(self._inputs[rows])
        without[:, self._channel] = 0
        return without
