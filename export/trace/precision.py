"""What other precisions than float32 change in a program, before its graphs are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from multires_edge.export.linear import QuantizedLinear
from multires_edge.export.types import FLOAT32, Type


@dataclass(frozen=True)
class Precision:
    """The type in which each instruction and each bank computes, by name, and the products in int8.

    What is in neither is in float32. Inputs and outputs of the graphs are always float32.
    """

    types: Mapping[str, Type] = field(default_factory=dict)
    products: Mapping[str, QuantizedLinear] = field(default_factory=dict)

    def type_of(self, name: str) -> Type:
        """The type of an instruction or of a bank."""
        return self.types.get(name, FLOAT32)


EXACT = Precision()  # everything in float32
