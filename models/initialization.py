"""Starting values for training, as the paper and its code have them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from multires_edge.base.errors import ConfigError, require_extra
from multires_edge.models.multires import MultiresLayer

if TYPE_CHECKING:
    from multires_edge.models.network import MultiresNet

_HAAR = math.sqrt(0.5)


def initialize(
    net: MultiresNet, wavelet: str | None = None, *, independent_residual: bool = False
) -> MultiresNet:
    """Set starting values of the layers of a new network; returns the network.

    A new network has random filters and memory weights. ``wavelet`` makes the filters those of an
    orthogonal wavelet instead: "haar", or any name that PyWavelets knows, such as "db2". It must have
    kernel_size taps. ``independent_residual`` draws the weight of a layer's input from -1 to 1, whatever the
    number of memory weights. Both are starting values only: training changes them.

    Raises ConfigError for a wavelet that does not fit, MissingExtraError without PyWavelets.
    """
    filters = None if wavelet is None else _filters(wavelet, net.config.kernel_size)
    with torch.no_grad():
        for layer in layers_of(net):
            if filters is not None:
                for parameter, values in zip((layer.h0, layer.h1), filters, strict=True):
                    parameter.copy_(torch.tensor(values).expand_as(parameter))
            if independent_residual:
                layer.w[:, -1].uniform_(-1, 1)
    return net


def layers_of(net: MultiresNet) -> list[MultiresLayer]:
    """The multiresolution layers of a network in order."""
    return [layer for layer in net.seq_layers if isinstance(layer, MultiresLayer)]


def _filters(wavelet: str, kernel_size: int) -> tuple[list[float], list[float]]:
    """Low-pass and high-pass of a wavelet, the tap of the newest sample last."""
    if wavelet in ("haar", "db1"):
        lowpass, highpass = [_HAAR, _HAAR], [_HAAR, -_HAAR]
    else:
        require_extra("train", "this wavelet", "pywt")
        import pywt

        if wavelet not in pywt.wavelist(kind="discrete"):
            raise ConfigError(f"wavelet is {wavelet!r}, expected a discrete one of PyWavelets, such as db2")
        found = pywt.Wavelet(wavelet)
        lowpass, highpass = found.dec_lo[::-1], found.dec_hi[::-1]
    if len(lowpass) != kernel_size:
        raise ConfigError(
            f"the wavelet {wavelet} has {len(lowpass)} taps, but the network's kernel_size is {kernel_size}"
        )
    return lowpass, highpass
