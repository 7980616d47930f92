"""A network as the kernel takes it: what its weights file describes, and its tensors, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.pooling import NO_POOLING
from multires_edge.runtime.backends.cuda.weights_file import WeightsFile

Floats = NDArray[np.float32]

# The names in weights files, and those in kinds.h.
ACTIVATIONS = {
    "gelu": "kGelu", "gelu_tanh": "kGeluTanh", "relu": "kRelu", "relu6": "kRelu6", "silu": "kSilu",
    "identity": "kIdentity",
}  # fmt: skip
OUTPUT_ACTIVATIONS = {"none": "kNone", "sigmoid": "kSigmoid", "softmax": "kSoftmax"}
POOLINGS = {"mean": "kMean", "max": "kMax", "last": "kLast"}
_STORED = {"fp32": np.float32, "fp16": np.float16, "int8": np.int8}
_QUEUES = ("float32", "float16", "int8")
_MOST = 1 << 20  # channels, tokens and filter taps
_MOST_WINDOW = 1 << 24


@dataclass(frozen=True)
class Matrix:
    """A product: weights (outputs, inputs) and bias. In int8 with the scales of weights and inputs."""

    weights: NDArray[Any]
    bias: Floats
    scales: Floats | None = None
    input_scales: Floats | None = None


@dataclass(frozen=True)
class NormKind:
    """``kind`` and ``place`` are words of kinds.h; the tensors of a layer are ``scale`` and ``shift``."""

    kind: str
    place: str
    scale: str
    shift: str | None


_NORMS = (
    NormKind("kLayer", "kAfter", "norm.scale", "norm.bias"),
    NormKind("kRms", "kAfter", "rms.scale", None),
    NormKind("kAffine", "kAfter", "affine.scale", "affine.shift"),
    NormKind("kAffine", "kResidual", "residual.scale", "residual.shift"),
)


@dataclass(frozen=True)
class Layer:
    """``filters`` (rows, d_model) are in the order that filters.h describes."""

    filters: Floats
    mixing: Matrix
    second: Matrix | None
    norm_scale: Floats
    norm_shift: Floats


class Network:
    """What a weights file has. ``window`` replaces the file's window. Raises BundleError."""

    def __init__(self, file: WeightsFile, window: int | None = None) -> None:
        self._file, number = file, file.number
        self.channels = number("d_input", 0, _MOST)
        self.tokens = number("n_tokens", 0, _MOST)
        self.outputs = number("d_output", 1, _MOST)
        self.d_model = number("d_model", 1, _MOST)
        self.n_layers = number("n_layers", 1, 10000)
        self.kernel_size = number("kernel_size", 2, 1000)
        self.depth = number("depth", 1, 30)
        self.window = number("window", 0, _MOST_WINDOW) if window is None else window
        self.encoder_taps = number("encoder_kernel_size", 1, 1 << 12, 1)
        self.groups = number("norm_groups", 1, self.d_model, 1)
        if (self.channels > 0) == (self.tokens > 0) or self.d_model % self.groups:
            raise file.damaged("metadata d_input, n_tokens or norm_groups contradict the rest")
        self.queues = file.choice("queues", _QUEUES)
        self.activation = ACTIVATIONS[file.choice("activation", tuple(ACTIVATIONS), "gelu")]
        self.gated = file.choice("mixing", ("glu", "plain"), "glu") == "glu"
        self.untied = file.choice("filters", ("tied", "untied"), "tied") == "untied"
        self.output_activation = OUTPUT_ACTIVATIONS[
            file.choice("output_activation", tuple(OUTPUT_ACTIVATIONS), "none")
        ]
        self.epsilon = self._read_epsilon()
        self.poolings = self._read_poolings(bool(number("autoregressive", 0, 1)))
        self._dtypes = (np.dtype("<f4"), np.dtype(_STORED[file.choice("precision", tuple(_STORED))]))
        norms = [norm for norm in _NORMS if file.has(f"layers.0.{norm.scale}")]
        if not norms:
            raise file.damaged("has no norm that the kernel knows")
        self._norm = norms[0]
        self.norm = self._norm.kind
        before = file.choice("norm_place", ("after", "before"), "after") == "before"
        self.place = "kBefore" if before else self._norm.place
        self.taps = [max(len(self._highpass(0, scale)), self.kernel_size) for scale in range(self.depth)]

    @property
    def slots(self) -> list[int]:
        """The rows in the ring of each scale."""
        return [((taps - 1) << scale) + 1 for scale, taps in enumerate(self.taps)]

    @property
    def head_inputs(self) -> int:
        return self.d_model * max(1, len(self.poolings))

    @cached_property
    def table(self) -> Floats | None:
        """(tokens, d_model); None for networks of samples."""
        return self._file.tensor("encoder.table", (self.tokens, self.d_model)) if self.tokens else None

    @cached_property
    def encoder(self) -> Matrix | None:
        """Of the samples by delay; None for networks of tokens."""
        return (
            None if self.tokens else self._plain("encoder", self.d_model, self.channels * self.encoder_taps)
        )

    @cached_property
    def head(self) -> Matrix:
        return self._plain("head", self.outputs, self.head_inputs)

    @cached_property
    def layers(self) -> list[Layer]:
        return [self._layer(i, f"layers.{i}") for i in range(self.n_layers)]

    def state_shapes(self, batch: int) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """The dtype and shape of each state by name, as the step graph has them."""
        d = self.d_model
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {"position": ("int64", (batch,))}
        for scale, slots in enumerate(self.slots):
            shapes[f"queue_{scale:02d}"] = (self.queues, (batch, 1, slots, self.n_layers * d))
        if self.encoder_taps > 1:
            shapes["encoder_queue"] = ("float32", (batch, 1, self.encoder_taps, self.channels))
        sums = ["pool_sum", "pool_sum_error"] if "mean" in self.poolings else []
        if sums and self.window:
            sums += ["pool_block", "pool_block_error"]
            shapes["pool_prefix"] = ("float32", (batch, 1, self.window + 1, 2 * d))
        if "max" in self.poolings:
            sums.append("pool_max")
        return shapes | dict.fromkeys(sums, ("float32", (batch, d)))

    def _read_epsilon(self) -> float:
        text = self._file.metadata.get("norm_epsilon", "")
        try:
            epsilon = float(text)
        except ValueError:
            epsilon = -1.0
        if not 0 <= epsilon < 1:
            raise self._file.damaged(f"metadata norm_epsilon is {text!r}")
        return epsilon

    def _read_poolings(self, autoregressive: bool) -> list[str]:
        text = self._file.metadata.get("pooling", NO_POOLING if autoregressive else "mean")
        names = [] if text == NO_POOLING else text.split("+")
        if len(set(names)) != len(names) or not set(names) <= set(POOLINGS):
            raise self._file.damaged(f"metadata pooling is {text!r}")
        return names

    def _plain(self, name: str, outputs: int, inputs: int) -> Matrix:
        weights = self._file.tensor(f"{name}.weight", (outputs, inputs))
        return Matrix(weights, self._file.tensor(f"{name}.bias", (outputs,)))

    def _convolution(self, name: str, outputs: int) -> Matrix:
        d, tensor = self.d_model, self._file.tensor
        weights = tensor(f"{name}.weight", (outputs, d), self._dtypes)
        bias = tensor(f"{name}.bias", (outputs,))
        if weights.dtype != np.int8:
            return Matrix(weights, bias)
        scales, inputs = tensor(f"{name}.weight_scales", (outputs,)), tensor(f"{name}.input_scales", (d,))
        if not (scales > 0).all() or not (inputs > 1 / np.finfo(np.float32).max).all():
            raise self._file.damaged(f"{name} has scales that are not above 0, or too small")
        return Matrix(weights, bias, scales, inputs)

    def _layer(self, i: int, name: str) -> Layer:
        d, norm, file = self.d_model, self._norm, self._file
        second = self._convolution(f"{name}.output", d) if file.has(f"{name}.output.weight") else None
        if (second is None) == file.has("layers.0.output.weight"):
            raise file.damaged("the layers differ in their convolutions")
        shift = file.tensor(f"{name}.{norm.shift}", (d,)) if norm.shift else np.zeros(d, np.float32)
        mixing = self._convolution(f"{name}.mixing", d * (2 if self.gated else 1))
        return Layer(self._filters(i), mixing, second, file.tensor(f"{name}.{norm.scale}", (d,)), shift)

    def _highpass(self, layer: int, scale: int) -> Floats:
        filters = self._file.tensor(f"layers.{layer}.highpass.{scale}", (-1, self.d_model))
        if len(filters) > _MOST:
            raise self._file.damaged(f"layers.{layer}.highpass.{scale} has more than {_MOST} taps")
        return filters

    def _filters(self, layer: int) -> Floats:
        """Substitute the a_j(t), coarsest first: what stays are weights of the input and of the queues."""
        d, size, depth = self.d_model, self.kernel_size, self.depth
        lowpass = self._file.tensor(
            f"layers.{layer}.lowpass", (depth, size, d) if self.untied else (size, d)
        ).astype(np.float64)
        quantized = self.queues == "int8"
        scales = self._file.tensor(f"layers.{layer}.queue_scales", (depth, d)) if quantized else None
        if scales is not None and not (scales >= np.finfo(np.float32).tiny).all():
            raise self._file.damaged(
                f"layers.{layer}.queue_scales has a value that is not a normal number above 0"
            )
        reached = np.zeros(d)  # the weight of a_{j+1}(t) in y(t)
        rows: list[NDArray[Any]] = []
        for scale in reversed(range(depth)):
            high = self._highpass(layer, scale)
            if max(len(high), size) != self.taps[scale]:
                raise self._file.damaged("the layers' filters differ in length")
            weights = np.zeros((self.taps[scale], d))
            weights[: len(high)] = high
            weights[:size] += (lowpass[scale] if self.untied else lowpass) * reached
            reached = weights[0].copy()
            if scales is None:
                rows.insert(0, weights[1:])
            else:
                each = scales[scale]
                rows.insert(0, np.concatenate([weights[1:] * each, each[None], 1 / each[None]]))
        with np.errstate(over="ignore"):
            filters = np.concatenate([lowpass.reshape(-1, d), reached[None], *rows]).astype(np.float32)
        if not np.isfinite(filters).all():
            raise self._file.damaged(f"the filters of layers.{layer} overflow float32")
        return filters
