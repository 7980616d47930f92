"""From recorded samples to the network's inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The micro sign and the Greek letter mu look alike, and files have both.
VOLTS = {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "\u00b5V": 1e-6, "\u03bcV": 1e-6}


def normalize(samples: NDArray[Any], preprocessing: Mapping[str, Any]) -> NDArray[np.float32]:
    """x = (sample - mean) / std for samples (..., channels, time) in the unit of ``preprocessing``.

    ``mean`` and ``std`` are one number, or one a channel, as in a bundle's manifest or a card.
    """
    mean, std = (np.asarray(preprocessing[key], np.float64) for key in ("mean", "std"))
    if mean.ndim:
        mean = mean[:, None]
    if std.ndim:
        std = std[:, None]
    return ((samples - mean) / std).astype(np.float32)
