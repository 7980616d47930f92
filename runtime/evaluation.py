"""How good a bundle is on labelled or natural data: predictions of each record, then one metric of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.runtime import metrics
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.data import Dataset
from multires_edge.runtime.errors import DataError, InputError
from multires_edge.runtime.images import levels_of
from multires_edge.runtime.logistic_mixture import LogisticMixture, mixture_count
from multires_edge.runtime.stream import Stream

GRAPHS = ("full", "step")


@dataclass(frozen=True)
class Evaluation:
    """A metric, and what it is of. ``predictions`` has one row a record, as :func:`predict` gives."""

    metric: str
    value: float
    by_class: dict[str, float] | None
    predictions: NDArray[Any]


def evaluate(
    bundle: Bundle,
    data: Dataset,
    *,
    graph: str = "full",
    backend: str = "auto",
    precision: str = "fp32",
    batch: int = 16,
    progress: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Measure a bundle on data.

    Autoregressive bundles get bits per dimension; classifiers with labels (n,), the number of the true
    class, accuracy; with labels (n, classes) of 0 and 1, the mean AUROC of the classes. ``graph`` is
    "full" or "step". Raises DataError for data that do not fit.
    """
    score = _metric(bundle, data)
    return score(predict(bundle, data, graph, backend, precision, batch, progress))


def predict(
    bundle: Bundle,
    data: Dataset,
    graph: str,
    backend: str,
    precision: str,
    batch: int,
    progress: Callable[[str], None] = lambda _: None,
) -> NDArray[Any]:
    """What the metric needs of each record: logits (n, d_output), or log-likelihoods (n,) in nats."""
    if graph not in GRAPHS:
        raise InputError(f"graph is {graph!r}, expected {' or '.join(GRAPHS)}")
    autoregressive = bundle.manifest.model["task"] == "autoregressive"
    outputs = _full_outputs if graph == "full" else _step_outputs
    predictions = []
    for rows, y in outputs(bundle, data, backend, precision, batch):
        predictions.append(_log_likelihood(y, data.inputs[rows]) if autoregressive else y)
        progress(f"record {rows.stop} of {len(data)}")
    return np.concatenate(predictions)


def _full_outputs(
    bundle: Bundle, data: Dataset, backend: str, precision: str, batch: int
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Rows of the data with what the full graph gives for them: logits, or params of every step."""
    full = bundle.full(backend=backend, precision=precision)
    for rows in _batches(len(data), batch):
        yield rows, full(data.inputs[rows], None if data.lengths is None else data.lengths[rows])


def _step_outputs(
    bundle: Bundle, data: Dataset, backend: str, precision: str, batch: int
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """The same from streams: logits at each row's own last step, or params of every step."""
    stream: Stream | None = None
    for rows in _batches(len(data), batch):
        x = data.inputs[rows]
        if stream is None or stream.batch != len(x):
            stream = bundle.stream(len(x), backend=backend, precision=precision)
        stream.reset()
        if bundle.manifest.model["task"] == "autoregressive":
            # A step is fed the pixel before the one that it predicts.
            yield rows, stream.run(np.concatenate([np.zeros_like(x[..., :1]), x[..., :-1]], axis=-1))
        else:
            y = stream.run(x)
            last = np.full(len(x), x.shape[-1]) if data.lengths is None else data.lengths[rows]
            yield rows, y[np.arange(len(x)), :, last - 1]


def _batches(count: int, batch: int) -> Iterator[slice]:
    for start in range(0, count, batch):
        yield slice(start, min(start + batch, count))


def _log_likelihood(params: NDArray[Any], x: NDArray[Any]) -> NDArray[np.float64]:
    """Of whole records, in nats: params (n, d_output, time), x (n, channels, time) -> (n,)."""
    mixture = LogisticMixture.from_params(np.moveaxis(params, 1, -1), x.shape[1])
    total: NDArray[np.float64] = mixture.log_likelihood(np.moveaxis(levels_of(x), 1, -1)).sum(-1)
    return total


def _metric(bundle: Bundle, data: Dataset) -> Callable[[NDArray[Any]], Evaluation]:
    """Choose the metric, and refuse data it cannot be computed from before anything runs."""
    model = bundle.manifest.model
    if model["task"] == "autoregressive":
        return _bits_per_dimension(model, data)
    labels, classes = data.labels, int(model["d_output"])
    if labels is None:
        raise DataError(f"{data.path}: holds no labels; expected labels (n,) or (n, {classes})")
    if labels.dtype.kind not in "biu":
        raise DataError(f"{data.path}: labels are {labels.dtype}, expected integers")
    if bundle.labels and data.classes and bundle.labels != data.classes:
        raise DataError(
            f"{data.path}: classes are {', '.join(data.classes)}, the bundle has {', '.join(bundle.labels)}"
        )
    if labels.ndim == 1:
        if labels.min() < 0 or labels.max() >= classes:
            raise DataError(
                f"{data.path}: labels run from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}"
            )
        return lambda logits: Evaluation("accuracy", metrics.accuracy(logits, labels), None, logits)
    if labels.shape[1:] != (classes,) or labels.min() < 0 or labels.max() > 1:
        raise DataError(
            f"{data.path}: labels of shape {labels.shape} run from {labels.min()} to {labels.max()}, "
            f"expected (n, {classes}) of 0 and 1, or (n,)"
        )
    names = bundle.labels or data.classes or [str(i) for i in range(classes)]

    def macro_auroc(logits: NDArray[Any]) -> Evaluation:
        by_class = dict(zip(names, metrics.auroc_by_class(logits, labels), strict=True))
        return Evaluation("auroc_macro", float(np.mean(list(by_class.values()))), by_class, logits)

    return macro_auroc


def _bits_per_dimension(model: dict[str, Any], data: Dataset) -> Callable[[NDArray[Any]], Evaluation]:
    if model["encoder"] == "token":
        raise DataError("this autoregressive bundle takes tokens; bits per dimension are of 8-bit images")
    if data.lengths is not None:
        raise DataError(f"{data.path}: holds lengths, and bits per dimension are of whole images")
    mixture_count(model["d_output"], model["d_input"])
    try:
        levels_of(data.inputs)
    except InputError as error:
        raise DataError(f"{data.path}: {error}") from error
    dimensions = data.inputs[0].size

    def bits_per_dimension(log_likelihoods: NDArray[Any]) -> Evaluation:
        value = metrics.bits_per_dimension(log_likelihoods, dimensions)
        return Evaluation("bits_per_dimension", value, None, log_likelihoods)

    return bits_per_dimension
