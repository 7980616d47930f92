"""The unit of work between the front end and the network: the steps up to the next decision or reset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.arrays import Array
from multires_edge.format.fields import Natural
from multires_edge.runtime.ecg.decision import Event
from multires_edge.runtime.ecg.quality import Flags


@dataclass(eq=False)
class Block:
    """The steps up to the next decision or reset: ``x`` (channels, steps) float32, or None in a silence.

    ``restart``: the stream starts over before the block; ``reset``: after it. ``decide``: a decision is due
    at its end. ``steps`` counts from the last start of the record, its sample ``origin``, to the end of the
    block. ``usable`` is the number of channels that showed a heart since the last decision. ``silent``: the
    stream stops here.
    """

    x: Annotated[NDArray[np.float32], Array("float32", 2, finite=True)] | None
    time: float
    steps: Natural = 0
    restart: bool = False
    decide: bool = False
    reset: bool = False
    quality: Flags = field(default_factory=dict)
    usable: Natural = 0
    events: tuple[Event, ...] = ()
    arrived: float | None = None
    silent: bool = False
    origin: Natural = 0

    @property
    def length(self) -> int:
        """The number of steps of ``x``, 0 in a silence."""
        return 0 if self.x is None else self.x.shape[1]
