"""Choose the metric for a task and its labels, and compute its value on any selection of records."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, InputError
from multires_edge.format.config import ModelConfig
from multires_edge.format.module import ModuleConfig
from multires_edge.runtime.evaluation.dataset import Dataset
from multires_edge.runtime.evaluation.diagnostic import auroc
from multires_edge.runtime.images.logistic_mixture import LogisticMixture, mixture_count
from multires_edge.runtime.images.pixels import levels_of

_SEED = 2023
_DRAWS_PER_RESAMPLE = 20  # with more draws than this, a class is too rare to resample


class Metric(ABC):
    """A metric of predictions with one row per record."""

    name: ClassVar[str]
    higher_is_better: ClassVar[bool] = True

    @abstractmethod
    def value(self, predictions: NDArray[Any], rows: Any = slice(None)) -> float:
        """The metric of the records ``rows``. A record may be repeated."""

    def check_defined(self) -> None:  # noqa: B027, most metrics are defined on any records
        """Raise DataError if the metric has no value on these records."""

    def values(self, predictions: NDArray[Any], rows: Any = slice(None)) -> list[float]:
        """The metric of the records ``rows``, and then that of each class if it has one."""
        return [self.value(predictions, rows)]

    def by_class(self, predictions: NDArray[Any]) -> dict[str, float] | None:
        """The value of each class, or None if the metric has only one value."""
        return None

    def predictions(self, y: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        """Convert a graph's output y for records x to predictions, one row per record."""
        return y

    def drop(self, value: float, reference: float) -> float:
        """How much worse a value is than the reference; negative if it is better."""
        return reference - value if self.higher_is_better else value - reference


@dataclass(frozen=True)
class Accuracy(Metric):
    """The share of records or steps whose largest logit is that of the true class.

    Predictions are logits (n, classes) or (n, classes, time). Labels (n,) or (n, time) are the numbers of the
    true classes; steps with a negative label do not count.
    """

    name: ClassVar[str] = "accuracy"
    labels: NDArray[Any]

    def value(self, predictions: NDArray[Any], rows: Any = slice(None)) -> float:
        labels = self.labels[rows]
        return float(np.mean((predictions[rows].argmax(1) == labels)[labels >= 0]))

    def check_defined(self) -> None:
        if not (self.labels >= 0).any():
            raise DataError("no step has a label; expected the number of its class from 0 on")


@dataclass(frozen=True)
class MacroAuroc(Metric):
    """The mean AUROC of the classes, over all records or steps.

    Predictions are logits (n, classes) or (n, classes, time). Labels are 0 or 1 in the same shape; steps with
    a negative label do not count.
    """

    name: ClassVar[str] = "auroc_macro"
    labels: NDArray[Any]
    classes: Sequence[str]

    def value(self, predictions: NDArray[Any], rows: Any = slice(None)) -> float:
        return self.values(predictions, rows)[0]

    def values(self, predictions: NDArray[Any], rows: Any = slice(None)) -> list[float]:
        areas = self._areas(predictions[rows], self.labels[rows])
        return [float(np.mean(areas)), *areas]

    def check_defined(self) -> None:
        of_class = np.moveaxis(self.labels, 1, 0).reshape(len(self.classes), -1)
        same = ~((of_class == 0).any(1) & (of_class == 1).any(1))
        if same.any():
            what = "records" if self.labels.ndim == 2 else "steps"
            names = ", ".join(name for name, alone in zip(self.classes, same, strict=True) if alone)
            raise DataError(
                f"all {of_class.shape[1]} {what} have the same label for {names}; AUROC needs {what} with "
                "and without each class"
            )

    def by_class(self, predictions: NDArray[Any]) -> dict[str, float]:
        return dict(zip(self.classes, self._areas(predictions, self.labels), strict=True))

    def _areas(self, scores: NDArray[Any], labels: NDArray[Any]) -> list[float]:
        pairs = zip(np.moveaxis(scores, 1, 0), np.moveaxis(labels, 1, 0), strict=True)
        return [auroc(score[label >= 0], label[label >= 0]) for score, label in pairs]


@dataclass(frozen=True)
class BitsPerDimension(Metric):
    """The mean of -log2 p(record) / ``dimensions``, the count of numbers of a record.

    Predictions are log-likelihoods (n,) in nats.
    """

    name: ClassVar[str] = "bits_per_dimension"
    higher_is_better: ClassVar[bool] = False
    dimensions: int

    def value(self, predictions: NDArray[Any], rows: Any = slice(None)) -> float:
        return float(-np.mean(predictions[rows]) / (self.dimensions * math.log(2)))

    def predictions(self, y: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        mixture = LogisticMixture.from_params(np.moveaxis(y, 1, -1), x.shape[1])
        total: NDArray[Any] = mixture.log_likelihood(np.moveaxis(levels_of(x), 1, -1)).sum(-1)
        return total


def metric_for(model: ModelConfig | ModuleConfig, names: Sequence[str] | None, data: Dataset) -> Metric:
    """Choose the metric. Raises DataError if it cannot be computed from the data.

    ``model`` comes from the manifest; ``names`` are the names of the classes. Raises ConfigError for a module
    whose output no metric is for.
    """
    if isinstance(model, ModelConfig) and model.shifts:
        return _bits_per_dimension(model, data)
    labels, classes = data.labels, int(model.d_output)
    of_steps = ["time"] if model.per_step else []
    numbers = "n, time" if of_steps else "n,"
    flags = ", ".join(["n", str(classes), *of_steps])
    if labels is None:
        folder = "" if of_steps else ", or labels.csv in a folder"
        raise DataError(f"{data.path}: has no labels, expected labels ({numbers}) or ({flags}){folder}")
    if labels.dtype.kind not in "biu":
        raise DataError(f"{data.path}: labels are {labels.dtype}, expected integers")
    if names and data.classes and list(names) != list(data.classes):
        raise DataError(
            f"{data.path}: classes are {', '.join(data.classes)}, the bundle has {', '.join(names)}"
        )
    if data.classes and len(data.classes) != classes:
        raise DataError(f"{data.path}: names {len(data.classes)} classes, the network has {classes}")
    if of_steps:
        labels = _labels_of_steps(labels, data)
    if labels.ndim == 1 + len(of_steps):
        if classes == 1:
            raise DataError(
                f"{data.path}: labels ({numbers}) select one of several classes, but the network has one "
                f"output; expected labels ({flags}) of 0 and 1"
            )
        if (not of_steps and labels.min() < 0) or labels.max() >= classes:
            raise DataError(
                f"{data.path}: labels run from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}"
            )
        return Accuracy(labels)
    expected = f"expected ({flags}) of 0 and 1, or ({numbers})"
    if labels.shape[1:2] != (classes,) or labels.ndim != 2 + len(of_steps):
        raise DataError(f"{data.path}: labels have shape {labels.shape}, {expected}")
    if (not of_steps and labels.min() < 0) or labels.max() > 1:
        raise DataError(f"{data.path}: labels run from {labels.min()} to {labels.max()}, {expected}")
    return MacroAuroc(labels, names or data.classes or [str(i) for i in range(classes)])


def _labels_of_steps(labels: NDArray[Any], data: Dataset) -> NDArray[Any]:
    """Labels (n, time) or (n, classes, time), -1 where a step has none or is after the end of its record."""
    steps = data.inputs.shape[-1]
    if labels.ndim < 2 or labels.shape[-1] != steps:
        raise DataError(
            f"{data.path}: labels have shape {labels.shape}, but the network has an output at every step: "
            f"expected labels of {steps} steps for each record"
        )
    ends = np.full(len(labels), steps) if data.lengths is None else data.lengths
    within = (np.arange(steps) < ends[:, None]).reshape(len(labels), *[1] * (labels.ndim - 2), steps)
    return np.where(within & (labels >= 0), labels.astype(np.int64), -1)


def _bits_per_dimension(model: ModelConfig, data: Dataset) -> Metric:
    if model.encoder == "token":
        raise DataError("this autoregressive bundle takes tokens, but bits per dimension need 8-bit images")
    if data.lengths is not None:
        raise DataError(f"{data.path}: has lengths, but bits per dimension need whole images")
    mixture_count(model.d_output, model.channels)
    try:
        levels_of(data.inputs[:])
    except InputError as error:
        raise DataError(f"{data.path}: {error}") from error
    return BitsPerDimension(math.prod(data.inputs.shape[1:]))


def bootstrap(
    metric: Metric, predictions: Sequence[NDArray[Any]], resamples: int, seed: int = _SEED
) -> NDArray[np.float64]:
    """The metric of each of ``predictions`` on records drawn with replacement.

    Returns (resamples, len(predictions), values): the metric, and that of each class if it has one.

    All predictions are scored on the same draws, so their differences are paired. A draw in which the AUROC
    of a class is undefined is drawn again. Raises DataError if that happens too often.
    """
    random = np.random.default_rng(seed)
    count = len(predictions[0])
    values: list[list[list[float]]] = []
    for _ in range(resamples * _DRAWS_PER_RESAMPLE):
        rows = random.integers(0, count, count)
        try:
            values.append([metric.values(each, rows) for each in predictions])
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
