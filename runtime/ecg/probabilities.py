"""From the outputs of a classifier to probabilities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from multires_edge.runtime.bundle import Bundle

Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def probabilities_of(bundle: Bundle) -> Function:
    """The function that turns a bundle's outputs (labels,) into probabilities."""
    if bundle.manifest.model.output_activation is not None:
        return np.asarray
    card = bundle.manifest.card
    return sigmoid if card is not None and card.output == "sigmoid" else softmax


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each label on its own."""
    # exp of the negative magnitude does not overflow.
    e = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1, e) / (1 + e))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exactly one label."""
    e = np.exp(logits - logits.max())
    return np.asarray(e / e.sum())
