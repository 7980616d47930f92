"""Long causal filters, one per channel, by the fast Fourier transform."""

from __future__ import annotations

import torch
from torch import Tensor


def causal_filter(x: Tensor, response: Tensor) -> Tensor:
    """Filter x (batch, channels, time) with impulse responses (channels, time), at most as long as x.

    Equals the sum over s of response[s] x[t - s], up to rounding: errors are relative to the largest values
    of a sequence. Its gradients are those of the sum.
    """
    time = x.shape[-1]
    # Long enough that the end of a sequence does not meet its beginning. Powers of two are fastest.
    length = 1 << (2 * time - 1).bit_length()
    spectrum = torch.fft.rfft(x, length) * torch.fft.rfft(response, length)
    filtered: Tensor = torch.fft.irfft(spectrum, length)
    return filtered[..., :time]
