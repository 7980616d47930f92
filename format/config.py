"""The configuration of a MultiresNet: every number that decides its shape, and what follows from them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from multires_edge.base.errors import ConfigError

Task = Literal["classification", "autoregressive"]
Encoder = Literal["linear", "token"]
TreeSelect = Literal["fading", "uniform"]

# The norms by name. Their modules are in models/norms.py, their folding is in export/norms.py.
NORMS = {"layer": "LayerNorm over the channels of a step", "batch": "BatchNorm"}
# 2**20 steps are three hours at 100 Hz; a deeper tree than this is a misread file, not a model.
MAX_DEPTH = 20
# As little a model; and a damaged number must not have as many layers' names filled into the memory.
MAX_LAYERS = 1000


def depth_for_length(length: int, kernel_size: int) -> int:
    """Smallest depth whose receptive field covers ``length`` steps.

    depth = ceil(log2((L - 1) / (K - 1) + 1)), the rule of the published training code.
    """
    if length < 2:
        raise ConfigError(f"training length is {length}, expected at least 2 steps")
    return math.ceil(math.log2((length - 1) / (kernel_size - 1) + 1))


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a MultiresNet (Shi, Wang and Fox, ICML 2023, arXiv:2305.01638).

    ``memory_size`` is the number of memory weights of a ``uniform`` tree, without the one of the
    input itself; ``None`` for ``fading``, where it is depth + 1.
    """

    task: Task
    encoder: Encoder
    d_input: int | None
    n_tokens: int | None
    d_output: int
    d_model: int
    n_layers: int
    kernel_size: int
    depth: int
    tree_select: TreeSelect = "fading"
    memory_size: int | None = None
    norm: str = "layer"

    def __post_init__(self) -> None:
        for field, allowed in (
            ("task", ("classification", "autoregressive")),
            ("encoder", ("linear", "token")),
            ("tree_select", ("fading", "uniform")),
            ("norm", tuple(NORMS)),
        ):
            value = getattr(self, field)
            if value not in allowed:
                raise ConfigError(f"{field} is {value!r}, expected one of {', '.join(allowed)}")
        for field in ("d_output", "d_model", "n_layers", "depth"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"{field} is {value!r}, expected a positive integer")
        if self.n_layers > MAX_LAYERS:
            raise ConfigError(f"n_layers is {self.n_layers}, expected at most {MAX_LAYERS}")
        if self.kernel_size < 2:
            raise ConfigError(f"kernel_size is {self.kernel_size}, expected at least 2")
        if self.depth > MAX_DEPTH:
            raise ConfigError(
                f"depth is {self.depth}, expected at most {MAX_DEPTH} "
                f"(a layer would look back {self.kernel_size - 1} * 2^{self.depth} steps)"
            )
        size, name = (self.d_input, "d_input") if self.encoder == "linear" else (self.n_tokens, "n_tokens")
        if size is None or size < 1:
            raise ConfigError(f"{name} is {size!r}, expected a positive integer")
        if self.tree_select == "uniform" and (self.memory_size is None or self.memory_size < 2):
            raise ConfigError(
                f"memory_size is {self.memory_size!r}, expected at least 2 with tree_select uniform"
            )
        if self.tree_select == "fading" and self.memory_size is not None:
            raise ConfigError("memory_size is only for tree_select uniform; leave it out")

    @property
    def n_memory_weights(self) -> int:
        """Columns of a layer's ``w``, the last of which weighs the input itself."""
        if self.tree_select == "fading":
            return self.depth + 2
        assert self.memory_size is not None
        return self.memory_size + 1

    def memory_columns(self) -> list[range]:
        """Columns of ``w`` that weigh the high-pass output of each scale, finest (scale 0) first.

        Scale j has dilation 2^j; its k-th column weighs b_j(t - k * 2^(j+1)). A fading tree spends
        one column a scale. A uniform tree spends its budget coarsest first, each finer scale asking
        for n <- 2 * (n - 1) + K columns, until ``memory_size`` is used up; a range is empty where
        nothing was left, and then that high-pass output is never needed.
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
        """Steps of the past that each scale's queue must hold, finest (scale 0) first."""
        deepest = []
        for j, columns in enumerate(self.memory_columns()):
            taps = self.kernel_size - 1 + 2 * max(len(columns) - 1, 0)
            deepest.append(taps << j)
        return deepest

    @property
    def layer_receptive_field(self) -> int:
        """Steps of its input that one layer's output depends on, the current one included."""
        reach, longest = 0, 0
        for j, history in enumerate(self.history()):
            longest = max(longest, reach + history)
            reach += (self.kernel_size - 1) << j
        return longest + 1

    @property
    def receptive_field(self) -> int:
        """Steps of the network's input that an unpooled output depends on, the current one included."""
        return self.n_layers * (self.layer_receptive_field - 1) + 1

    def to_json(self) -> dict[str, Any]:
        """The ``model`` entry of a bundle's manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> ModelConfig:
        """Read :meth:`to_json` back; unknown keys are an error."""
        names = {field.name for field in fields(cls)}
        if set(entry) != names:
            raise ConfigError(f"model entry has keys {sorted(entry)}, expected {sorted(names)}")
        return cls(**entry)
