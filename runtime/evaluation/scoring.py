"""Which metric a task and its labels ask for, and its value on any choice of records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, InputError
from multires_edge.runtime.evaluation import metrics
from multires_edge.runtime.evaluation.dataset import Dataset
from multires_edge.runtime.images.logistic_mixture import LogisticMixture, mixture_count
from multires_edge.runtime.images.pixels import levels_of

_SEED = 2023
_DRAWS_PER_RESAMPLE = 20  # more than this, and a class is too rare to resample


class Metric(ABC):
    """Scores predictions, of which every record has one row."""

    name: ClassVar[str]
    higher_is_better: ClassVar[bool] = True

    @abstractmethod
    def value(self, predictions: NDArray[Any], rows: Any = slice(None)) -> float:
        """Of the records that ``rows`` names, any of them several times."""

    def check_defined(self) -> None:  # noqa: B027, most are defined on any records
        """Raise DataError, before anything runs, where these records leave the metric without a value."""

    def by_class(self, predictions: NDArray[Any]) -> dict[str, float] | None:
        """The value of each class, for metrics that have one."""
        return None

    def predictions(self, y: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        """What :meth:`value` needs of a graph's output for some records, one row each."""
        return y

    def drop(self, value: float, reference: float) -> float:
        """How much worse a value is than the reference; negative where it is better."""
        return reference - value if self.higher_is_better else value - reference


@dataclass(frozen=True)
class Accuracy(Metric):
    """Predictions are logits (n, classes), labels (n,) the number of the true class."""

    name: ClassVar[str] = "accuracy"
    labels: NDArray[Any]

    def value(self, predictions: NDArray[Any], rows: Any = slice(None)) -> float:
        return metrics.accuracy(predictions[rows], self.labels[rows])


@dataclass(frozen=True)
class MacroAuroc(Metric):
    """Predictions are logits (n, classes), labels (n, classes) of 0 and 1."""

    name: ClassVar[str] = "auroc_macro"
    labels: NDArray[Any]
    classes: list[str]

    def value(self, predictions: NDArray[Any], rows: Any = slice(None)) -> float:
        return float(np.mean(metrics.auroc_by_class(predictions[rows], self.labels[rows])))

    def check_defined(self) -> None:
        same = (self.labels == self.labels[0]).all(0)
        if same.any():
            names = ", ".join(name for name, alone in zip(self.classes, same, strict=True) if alone)
            raise DataError(
                f"all {len(self.labels)} records have the same label of {names}; AUROC needs records with "
                "and without each class"
            )

    def by_class(self, predictions: NDArray[Any]) -> dict[str, float]:
        return dict(zip(self.classes, metrics.auroc_by_class(predictions, self.labels), strict=True))


@dataclass(frozen=True)
class BitsPerDimension(Metric):
    """Predictions are log-likelihoods (n,) in nats, of records of so many numbers."""

    name: ClassVar[str] = "bits_per_dimension"
    higher_is_better: ClassVar[bool] = False
    dimensions: int

    def value(self, predictions: NDArray[Any], rows: Any = slice(None)) -> float:
        return metrics.bits_per_dimension(predictions[rows], self.dimensions)

    def predictions(self, y: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        mixture = LogisticMixture.from_params(np.moveaxis(y, 1, -1), x.shape[1])
        total: NDArray[Any] = mixture.log_likelihood(np.moveaxis(levels_of(x), 1, -1)).sum(-1)
        return total


def metric_for(model: Mapping[str, Any], names: list[str] | None, data: Dataset) -> Metric:
    """Choose the metric, and refuse data it cannot be computed from before anything runs.

    ``model`` is the manifest's, ``names`` those of the classes. Raises DataError.
    """
    if model["task"] == "autoregressive":
        return _bits_per_dimension(model, data)
    labels, classes = data.labels, int(model["d_output"])
    if labels is None:
        raise DataError(f"{data.path}: holds no labels; expected labels (n,) or (n, {classes})")
    if labels.dtype.kind not in "biu":
        raise DataError(f"{data.path}: labels are {labels.dtype}, expected integers")
    if names and data.classes and names != data.classes:
        raise DataError(
            f"{data.path}: classes are {', '.join(data.classes)}, the bundle has {', '.join(names)}"
        )
    if data.classes and len(data.classes) != classes:
        raise DataError(f"{data.path}: names {len(data.classes)} classes, the network has {classes}")
    if labels.ndim == 1:
        if classes == 1:
            raise DataError(
                f"{data.path}: labels (n,) name one of several classes, and the network has one output; "
                "expected labels (n, 1) of 0 and 1"
            )
        if labels.min() < 0 or labels.max() >= classes:
            raise DataError(
                f"{data.path}: labels run from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}"
            )
        return Accuracy(labels)
    expected = f"expected (n, {classes}) of 0 and 1, or (n,)"
    if labels.shape[1:] != (classes,):
        raise DataError(f"{data.path}: labels have shape {labels.shape}, {expected}")
    if labels.min() < 0 or labels.max() > 1:
        raise DataError(f"{data.path}: labels run from {labels.min()} to {labels.max()}, {expected}")
    return MacroAuroc(labels, names or data.classes or [str(i) for i in range(classes)])


def _bits_per_dimension(model: Mapping[str, Any], data: Dataset) -> Metric:
    if model["encoder"] == "token":
        raise DataError("this autoregressive bundle takes tokens; bits per dimension are of 8-bit images")
    if data.lengths is not None:
        raise DataError(f"{data.path}: holds lengths, and bits per dimension are of whole images")
    mixture_count(model["d_output"], model["d_input"])
    try:
        levels_of(data.inputs)
    except InputError as error:
        raise DataError(f"{data.path}: {error}") from error
    return BitsPerDimension(int(data.inputs[0].size))


def bootstrap(
    metric: Metric, predictions: Sequence[NDArray[Any]], resamples: int, seed: int = _SEED
) -> NDArray[np.float64]:
    """The metric of some predictions on records drawn with replacement: (resamples, len(predictions)).

    All are scored on the same draws, so that their differences are paired. A draw without both kinds of a
    class has no AUROC and is drawn again. Raises DataError where that keeps happening.
    """
    random = np.random.default_rng(seed)
    count = len(predictions[0])
    values: list[list[float]] = []
    for _ in range(resamples * _DRAWS_PER_RESAMPLE):
        rows = random.integers(0, count, count)
        try:
            values.append([metric.value(each, rows) for each in predictions])
        except DataError:
            continue
        if len(values) == resamples:
            return np.array(values)
    raise DataError(
        f"a class is so rare among {count} records that it is missing from most resamples: give more records"
    )


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of bootstrap values (percentile method; Efron and Tibshirani 1993, ch. 13)."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
