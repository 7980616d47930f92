"""Long causal filters, one per channel, by the fast Fourier transform."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def causal_filter(x: Tensor, response: Tensor) -> Tensor:
    """Filter x (batch, channels, time) with impulse responses (channels, time), at most as long as x.

    Equals the sum over s of response[s] x[t - s], up to rounding: errors are relative to the largest values
    of a sequence. Its gradients are those of the sum.
    """
    # There are no transforms of bfloat16.
    dtype = torch.promote_types(x.dtype, torch.float32)
    filtered: Tensor = _CausalFilter.apply(x.to(dtype), response.to(dtype))  # type: ignore[no-untyped-call]
    return filtered.to(x.dtype)


class _CausalFilter(torch.autograd.Function):
    """The gradients are filters too, with time reversed. PyTorch's own for a real transform are complex."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, response: Tensor) -> Tensor:
        # Long enough that the end of a sequence does not meet its beginning. Powers of two are fastest.
        ctx.length = 1 << (2 * x.shape[-1] - 1).bit_length()
        spectrum, gains = torch.fft.rfft(x, ctx.length), torch.fft.rfft(response, ctx.length)
        ctx.sizes = x.shape[-1], response.shape[-1]
        ctx.save_for_backward(spectrum, gains)
        filtered: Tensor = torch.fft.irfft(spectrum * gains, ctx.length)
        return filtered[..., : x.shape[-1]]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        spectrum, gains = ctx.saved_tensors
        time, taps = ctx.sizes
        given = torch.fft.rfft(gradients[0], ctx.length)
        of_x = of_response = None
        if ctx.needs_input_grad[0]:
            of_x = torch.fft.irfft(given * gains.conj(), ctx.length)[..., :time]
        if ctx.needs_input_grad[1]:
            summed = (given * spectrum.conj()).sum(0)
            of_response = torch.fft.irfft(summed, ctx.length)[..., :taps]
        return of_x, of_response
