"""The configuration of a MultiresNet: the numbers that decide its shape, and sizes derived from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from multires_edge.base.errors import ConfigError
from multires_edge.format.fields import ABSENT, Between, Count, FieldError, Line, Name, check_fields
from multires_edge.format.pooling import NO_POOLING, Pooling, pooled_as, pooling_named

Task = Literal["classification", "autoregressive"]
Encoder = Literal["linear", "token"]
TreeSelect = Literal["fading", "uniform"]

# The norms by name. Their modules are in models/norms.py, their folding is in export/norms.py.
NORMS = {
    "layer": "LayerNorm over the channels of a step",
    "batch": "BatchNorm",
    "rms": "RMSNorm over the channels of a step",
    "group": "GroupNorm over the channels of a step",
    "none": "no norm",
}
# The functions before the mixing. Their modules are in models/activations.py, their nodes in
# export/activations.py.
ACTIVATIONS = {
    "gelu": "x * Phi(x)",
    "gelu_tanh": "GELU by its tanh approximation",
    "relu": "max(x, 0)",
    "relu6": "min(max(x, 0), 6)",
    "silu": "x * sigmoid(x)",
    "identity": "x",
}
# The functions after the head by name. They are in models/network.py, their operators in
# export/graphs/gemm.py.
OUTPUT_ACTIVATIONS = {
    "sigmoid": "1 / (1 + exp(-x))",
    "softmax": "exp(x) over its sum over the outputs of a step",
}
# How a block mixes the channels. Modules: models/mixing.py; nodes: export/graphs/mixing.py.
MIXINGS = {"glu": "a gated linear unit", "plain": "a 1x1 convolution"}
# 2**20 steps are three hours at 100 Hz. A deeper tree is a misread file.
MAX_DEPTH = 20
# More layers are a misread file too; the names of their tensors must fit into memory before any is read.
MAX_LAYERS = 1000

_BLOCK = {**ABSENT, "block": True}


def depth_for_length(length: int, kernel_size: int) -> int:
    """The smallest depth whose receptive field covers ``length`` steps.

    depth = ceil(log2((L - 1) / (K - 1) + 1)), the rule of the published training code.
    """
    if length < 2:
        raise ConfigError(f"training length is {length}, expected at least 2 steps")
    return math.ceil(math.log2((length - 1) / (kernel_size - 1) + 1))


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a MultiresNet (Shi, Wang and Fox, ICML 2023, arXiv:2305.01638).

    ``memory_size`` is the number of memory weights of a ``uniform`` tree, without the weight of the
    input. It is None for a ``fading`` tree, which has depth + 1.

    The fields with the metadata ``block`` say what a residual block computes; their defaults are the
    published definition. ``norm_place``: norm(x + block(x)) is "after", x + block(norm(x)) is "before".
    ``norm_groups`` is for the norm "group" only. ``filters`` are the same at every scale, or "untied".
    ``mixing_output``: whether a second convolution follows the mixing; None is as published, where only
    autoregressive networks have it.

    The last fields are None where the network is as published. ``pooling`` is what the head reads: "mean",
    "max", "last" or several, such as "mean+max", of all steps; or "none" for an output at every step.
    ``shifted``: whether the output at a step depends on earlier inputs alone. A shifted network computes
    the parameters of a distribution of each input; any other network computes logits, or probabilities with
    an ``output_activation``. ``encoder_kernel_size`` is that of a causal convolution, 1 if None.
    """

    task: Task
    encoder: Encoder
    d_input: Count | None
    n_tokens: Count | None
    d_output: Count
    d_model: Count
    n_layers: Annotated[int, Between(1, MAX_LAYERS)]
    kernel_size: Annotated[int, Between(2, 1 << 20)]
    depth: Annotated[int, Between(1, MAX_DEPTH)]
    tree_select: TreeSelect = "fading"
    memory_size: Annotated[int, Between(2, 1 << 20)] | None = None
    norm: Name = field(default="layer", metadata={"block": True})
    norm_place: Literal["after", "before"] = field(default="after", metadata=_BLOCK)
    norm_eps: Annotated[float, Between(0, 0.1)] = field(default=1e-5, metadata=_BLOCK)
    norm_groups: Count | None = field(default=None, metadata=_BLOCK)
    activation: Name = field(default="gelu", metadata=_BLOCK)
    mixing: Name = field(default="glu", metadata=_BLOCK)
    mixing_output: bool | None = field(default=None, metadata=_BLOCK)
    filters: Literal["tied", "untied"] = field(default="tied", metadata=_BLOCK)
    pooling: Line | None = field(default=None, metadata=ABSENT)
    shifted: bool | None = field(default=None, metadata=ABSENT)
    encoder_kernel_size: Annotated[int, Between(2, 1 << 12)] | None = field(default=None, metadata=ABSENT)
    output_activation: Name | None = field(default=None, metadata=ABSENT)

    def __post_init__(self) -> None:
        try:
            check_fields(self)
        except FieldError as error:
            raise ConfigError(str(error)) from None
        for what, name, known in (
            ("norm", self.norm, NORMS),
            ("activation", self.activation, ACTIVATIONS),
            ("mixing", self.mixing, MIXINGS),
        ):
            if name not in known:
                raise ConfigError(f"{what} is {name!r}, expected one of {', '.join(known)}")
        if (self.norm == "group") != (self.norm_groups is not None) or self.d_model % (self.norm_groups or 1):
            raise ConfigError(
                f"norm_groups is {self.norm_groups} with norm {self.norm}, expected a number that divides "
                f"{self.d_model} channels with norm group, and null with others"
            )
        size, other = (self.d_input, self.n_tokens)[:: 1 if self.encoder == "linear" else -1]
        if size is None or other is not None:
            raise ConfigError(
                f"d_input is {self.d_input} and n_tokens {self.n_tokens}, expected one of them: "
                "d_input for a linear encoder, n_tokens for a token encoder"
            )
        if (self.memory_size is None) != (self.tree_select == "fading"):
            raise ConfigError(
                f"memory_size is {self.memory_size} with tree_select {self.tree_select}, expected a number "
                "with uniform and null with fading"
            )
        published = {"pooling": self._published_pooling, "shifted": self.task == "autoregressive"}
        for name, value in published.items():
            if getattr(self, name) == value:
                object.__setattr__(self, name, None)  # so that equal networks are equal
        if self.output_activation not in (None, *OUTPUT_ACTIVATIONS):
            raise ConfigError(
                f"output_activation is {self.output_activation!r}, expected null or one of "
                f"{', '.join(OUTPUT_ACTIVATIONS)}"
            )
        if self.encoder_kernel_size is not None and self.encoder == "token":
            raise ConfigError("encoder_kernel_size is for linear encoders, but this one reads tokens")
        pooling = self.pooled_by()
        if self.pooling not in (None, NO_POOLING, pooling and pooling.kind):
            raise ConfigError(f"pooling is {self.pooling!r}, expected {pooling and pooling.kind!r}")
        if pooling is not None and (self.shifts or self.task == "autoregressive"):
            raise ConfigError(f"pooling is {self.pooling!r}, but an autoregressive network does not pool")

    @property
    def _published_pooling(self) -> str:
        return NO_POOLING if self.task == "autoregressive" else "mean"

    def pooled_by(self, other: Pooling | None = None) -> Pooling | None:
        """The pooling of the features for the head: ``other``, or the network's own over all steps.

        None for a network with an output at every step. Raises ConfigError for a pooling of another kind.
        """
        own = pooling_named(self.pooling or self._published_pooling)
        return own if own is None or other is None else pooled_as(own, other)

    @property
    def per_step(self) -> bool:
        """Whether the network has an output at every step."""
        return self.pooled_by() is None

    @property
    def d_head(self) -> int:
        """The number of values that the head reads."""
        pooling = self.pooled_by()
        return self.d_model * (len(pooling.parts) if pooling else 1)

    @property
    def output(self) -> str:
        """The name of the graphs' output."""
        return "params" if self.shifts else "logits"

    @property
    def kind_of_pooling(self) -> str:
        """Such as "mean", "mean+max" or "none"."""
        pooling = self.pooled_by()
        return NO_POOLING if pooling is None else pooling.kind

    @property
    def shifts(self) -> bool:
        """Whether the network shifts its input by one step, so that step t sees only inputs before t."""
        return self.task == "autoregressive" if self.shifted is None else self.shifted

    @property
    def encoder_taps(self) -> int:
        """The number of steps that a linear encoder reads, the current one included."""
        return self.encoder_kernel_size or 1

    @property
    def channels(self) -> int:
        """The number of values per step that a linear encoder takes."""
        assert self.d_input is not None
        return self.d_input

    @property
    def second_convolution(self) -> bool:
        """Whether the mixing of a block ends with a second 1x1 convolution."""
        return self.task == "autoregressive" if self.mixing_output is None else self.mixing_output

    @property
    def n_memory_weights(self) -> int:
        """The number of columns of a layer's ``w``. The last column weighs the input."""
        if self.tree_select == "fading":
            return self.depth + 2
        assert self.memory_size is not None
        return self.memory_size + 1

    def memory_columns(self) -> list[range]:
        """The columns of ``w`` that weigh the high-pass output of each scale, finest (scale 0) first.

        Scale j has dilation 2^j; its k-th column weighs b_j(t - k * 2^(j+1)). A fading tree has one column
        per scale. A uniform tree assigns columns from the coarsest scale on, n <- 2 * (n - 1) + K for each
        finer scale, until ``memory_size`` columns are assigned. The remaining scales get empty ranges, and
        their high-pass outputs are not needed.
        """
        if self.tree_select == "fading":
            return [range(self.depth - j, self.depth - j + 1) for j in range(self.depth)]
        assert self.memory_size is not None
        columns = []
        used, wanted = 1, 1  # column 0 weighs the coarsest low-pass output
        for _ in range(self.depth):
            n = min(wanted, self.memory_size - used)
            columns.append(range(used, used + n))
            used += n
            wanted = 2 * (wanted - 1) + self.kernel_size
        return columns[::-1]

    def history(self) -> list[int]:
        """The number of past steps that the queue of each scale holds, finest (scale 0) first."""
        deepest = []
        for j, columns in enumerate(self.memory_columns()):
            taps = self.kernel_size - 1 + 2 * max(len(columns) - 1, 0)
            deepest.append(taps << j)
        return deepest

    @property
    def layer_receptive_field(self) -> int:
        """The number of input steps that the output of one layer depends on, the current one included."""
        reach, longest = 0, 0
        for j, history in enumerate(self.history()):
            longest = max(longest, reach + history)
            reach += (self.kernel_size - 1) << j
        return longest + 1

    @property
    def receptive_field(self) -> int:
        """The number of input steps that an unpooled output depends on, the current one included."""
        return self.n_layers * (self.layer_receptive_field - 1) + self.encoder_taps
