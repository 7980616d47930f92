"""A proof: the checks that a bundle passed or failed, and what they were made on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from multires_edge.format.comparison import Check
from multires_edge.format.config import ModelConfig
from multires_edge.format.parity import Parity
from multires_edge.format.pooling import Pooling


@dataclass
class AnyProof(ABC):
    """All checks of one bundle, and the inputs that they were made on."""

    data: str
    steps: int
    checks: list[Check] = field(default_factory=list, kw_only=True)

    @property
    @abstractmethod
    def basis(self) -> str:
        """What shows that the reference is the user's network."""

    @property
    @abstractmethod
    def layer_receptive_field(self) -> int:
        """Steps that fill every queue."""

    @property
    @abstractmethod
    def receptive_field(self) -> int:
        """Steps that an output depends on."""

    @property
    def covers_window(self) -> bool | None:
        """Whether the sequence is longer than two pooling windows; None without a window."""
        return None

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def parity(self, quantization: dict[str, Any] | None = None) -> Parity:
        """The content of parity.json; ``quantization`` is what it says of each precision's weights."""
        return Parity(
            passed=self.passed,
            reference="PyTorch, float64",
            basis=self.basis,
            measures={
                "max": "max |y - reference| / max(1, |reference|)",
                "mean": "sum |y - reference| / sum |reference|",
            },
            data=self.data,
            steps=self.steps,
            layer_receptive_field=self.layer_receptive_field,
            receptive_field=self.receptive_field,
            covers_layer_receptive_field=self.steps > self.layer_receptive_field,
            covers_receptive_field=self.steps > self.receptive_field,
            covers_window=self.covers_window,
            checks=tuple(check.result() for check in self.checks),
            quantization=quantization,
        )


@dataclass
class Proof(AnyProof):
    """The proof of a MultiresNet."""

    config: ModelConfig
    n_parameters: int
    pooling: Pooling | None
    outputs: str | None = None  # the file with the outputs of the user's own network
    module: bool = False  # whether the network was found in the user's module, and compared with it

    @property
    def basis(self) -> str:
        own = "" if self.outputs is None else f", and your network's outputs in {self.outputs}"
        return f"{'your module' if self.module else 'the published definition'}{own}"

    @property
    def layer_receptive_field(self) -> int:
        return self.config.layer_receptive_field

    @property
    def receptive_field(self) -> int:
        return self.config.receptive_field

    @property
    def covers_window(self) -> bool | None:
        if self.pooling is None or self.pooling.window is None:
            return None
        return self.steps > self.pooling.settling_steps
