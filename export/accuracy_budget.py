"""Mixed precision by a budget: as many weights in int8 as a metric allows, the others in float32.

The others are float32 and not float16, because the values between int8 layers are float32: a float16 layer
would cost two casts, and CPUs have no float16 kernels that would make up for them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from multires_edge.base.errors import ConfigError, DataError, MultiresError, OverflowedError
from multires_edge.export.options import check_max_drop
from multires_edge.format.config import ModelConfig
from multires_edge.format.module import ModuleConfig
from multires_edge.runtime.backends.providers import load_onnxruntime
from multires_edge.runtime.evaluation.dataset import Dataset
from multires_edge.runtime.evaluation.scoring import Metric, metric_for

RELATIVE_ERROR = "relative_error"
_BATCH = 16


class BudgetError(MultiresError):
    """No mixture of int8 and float32 keeps the budget. The message says what was tried."""


@dataclass(frozen=True)
class Effect:
    """The effect of quantized weights on the outputs for the data.

    ``error`` is sum |y - y32| / sum |y32|. ``drop`` is the loss of the metric, without labels ``error``.
    """

    error: float
    drop: float

    def to_json(self) -> dict[str, float]:
        return {"error": self.error, "drop": self.drop}


@dataclass(frozen=True)
class Budget:
    """The chosen mixture and the measurements that led to it.

    ``alone`` is the effect of each weight when only this weight is quantized. ``tried`` is the effect of each
    measured mixture, by the weights that it keeps in float32. ``keep`` is the chosen mixture.
    """

    max_drop: float
    metric: str
    reference: float | None
    data: str
    records: int
    alone: dict[str, Effect]
    tried: dict[frozenset[str], Effect]
    keep: frozenset[str]

    @property
    def effect(self) -> Effect:
        """The effect of the chosen mixture."""
        return self.tried[self.keep]

    def to_json(self) -> dict[str, Any]:
        return {
            "max_drop": self.max_drop,
            "metric": self.metric,
            "float32": self.reference,
            "data": self.data,
            "records": self.records,
            "tried": [{"kept": sorted(keep), **effect.to_json()} for keep, effect in self.tried.items()],
        }


# The full graph with the weights of these names in int8; None is the float32 graph.
Build = Callable[[set[str] | None], onnx.ModelProto]


def keep_within(
    build: Build,
    config: ModelConfig | ModuleConfig,
    data: Dataset,
    max_drop: float,
    names: Sequence[str],
    *,
    labels: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Budget:
    """Choose the weights to keep in float32 so that the metric drops by at most ``max_drop``.

    First each weight of ``names`` is quantized alone. Then all are quantized, and the weight with the largest
    error of its own returns to float32 until the budget holds; each mixture is measured. At the end each
    returned weight is tried in int8 again, the smallest error first, because an output error does not always
    change the metric. The order is by error and not by drop: the effect of one weight on a metric depends on
    the few records near a threshold, and is often negative. ``build`` makes the full graph of a mixture of
    the network of ``config``; ``labels`` are the names of the classes. For data without labels the metric is
    the relative error of all outputs. Raises BudgetError, and DataError for data that do not fit.
    """
    check_max_drop(max_drop)
    measure = _Measure(build, config, data, labels)
    alone = {}
    for name in names:
        progress(f"budget: {name} alone in int8")
        alone[name] = measure.effect([name])
    worst_first = sorted(names, key=lambda name: -alone[name].error)
    tried: dict[frozenset[str], Effect] = {}

    def holds(keep: frozenset[str]) -> bool:
        progress(f"budget: all in int8 but {len(keep)} of {len(names)}")
        tried[keep] = measure.effect(set(names) - keep)
        return tried[keep].drop <= max_drop

    mixtures = [frozenset(worst_first[:count]) for count in range(len(names))]
    keep = next((mixture for mixture in mixtures if holds(mixture)), None)
    if keep is None:
        raise BudgetError(
            f"no mixture keeps {measure.name} within {max_drop:g} of float32 on {data.path.name}: it drops "
            f"by {tried[mixtures[0]].drop:.3g} with all {len(names)} weights in int8, and by "
            f"{tried[mixtures[-1]].drop:.3g} with only {worst_first[-1]}. Give a larger --max-drop"
        )
    # The last of them is needed: without it the budget did not hold.
    for name in reversed(worst_first[: max(0, len(keep) - 1)]):
        if holds(keep - {name}):
            keep -= {name}
    return Budget(max_drop, measure.name, measure.reference, data.path.name, len(data), alone, tried, keep)


class _Measure:
    """Runs full graphs in memory on the data, and compares them with the float32 graph."""

    def __init__(
        self,
        build: Build,
        config: ModelConfig | ModuleConfig,
        data: Dataset,
        labels: Sequence[str] | None,
    ) -> None:
        self.build, self.config, self.data = build, config, data
        self.metric: Metric | None = None  # without one, only the float32 outputs can be compared with
        if config.shifts:
            with suppress(ConfigError, DataError):  # the network may not be of images
                self.metric = metric_for(config, labels, data)
        elif data.labels is not None:
            self.metric = metric_for(config, labels, data)
        if self.metric is not None:
            self.metric.check_defined()
        self.name = self.metric.name if self.metric else RELATIVE_ERROR
        self.outputs, needed = [], []
        for y, predictions in self._run(None):
            self.outputs.append(y)
            needed += predictions
        self.total = sum(float(np.abs(y).sum(dtype=np.float64)) for y in self.outputs)
        self.reference: float | None = None
        if self.metric is not None:
            self.reference = self.metric.value(np.concatenate(needed))

    def effect(self, names: Collection[str]) -> Effect:
        """The effect of quantizing the weights of these names."""
        error, needed = 0.0, []
        for (y, predictions), reference in zip(self._run(set(names)), self.outputs, strict=True):
            error += float(np.abs(y - reference).sum(dtype=np.float64))
            needed += predictions
        error /= self.total or 1.0
        if self.metric is None or self.reference is None:
            return Effect(error, error)
        value = self.metric.value(np.concatenate(needed))
        return Effect(error, self.metric.drop(value, self.reference))

    def _run(self, names: set[str] | None) -> Iterator[tuple[NDArray[Any], list[NDArray[Any]]]]:
        """The outputs batch by batch, with the predictions from them if there is a metric."""
        onnxruntime = load_onnxruntime()
        model = self.build(names)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        inputs = [tensor.name for tensor in session.get_inputs()]
        lengths, padded = self.data.lengths, "lengths" not in inputs and not self.config.per_step
        # A graph over every step that takes no lengths runs on records without their padding.
        alone = lengths is not None and padded
        for start in range(0, len(self.data), 1 if alone else _BATCH):
            rows = slice(start, start + (1 if alone else _BATCH))
            x = self.data.inputs[rows]
            given = x if isinstance(x, dict) else {inputs[0]: x}
            steps = int(lengths[start]) if alone and lengths is not None else None
            feeds = {name: np.ascontiguousarray(array[..., :steps]) for name, array in given.items()}
            if "lengths" in inputs and lengths is not None:
                feeds["lengths"] = lengths[rows]
            outputs = session.run(None, feeds)
            # Several outputs side by side: without a metric only their errors count.
            y = outputs[0] if len(outputs) == 1 else _side_by_side(outputs)
            if not np.isfinite(y).all():
                raise OverflowedError(f"{self.data.path}: outputs overflow float32; are the data normalized?")
            yield y, [] if self.metric is None else [self.metric.predictions(y, x)]


def _side_by_side(outputs: list[NDArray[Any]]) -> NDArray[Any]:
    """Outputs (n, ...) as one array (n, values)."""
    return np.concatenate([y.reshape(len(y), -1) for y in outputs], axis=1)
