"""The user's module as the reference of the network that was found in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.comparison import Check


@dataclass(frozen=True)
class OwnModule:
    """``outputs`` of the module in float64: (rows, d_output), or (rows, d_output, time) at every step.

    They are for x (rows, d_input, time), or tokens (rows, time). ``check`` compares it with the network.
    """

    outputs: Callable[[NDArray[Any]], NDArray[np.float64]]
    check: Check
