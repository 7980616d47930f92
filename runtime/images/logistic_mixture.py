"""Mixtures of discretized logistics over 8-bit colours, as in PixelCNN++.

Salimans, Karpathy, Chen, Kingma: "PixelCNN++", ICLR 2017, arXiv:1701.05517, section 2.1 and 2.2. A level
k of 0 ... 255 is the bin of width 2/255 around x = k/127.5 - 1. The lowest and the highest bin include the
tails. All channels of a pixel share one component. In it, the mean of each channel depends linearly on the
channels before it: red, then green, then blue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import ConfigError

LEVELS = 256

_HALF_BIN = 1 / 255
# The minimum is that of training. The maximum only keeps exp() finite: at much smaller scales a logistic is
# flat over all levels already.
_MIN_LOG_SCALE, _MAX_LOG_SCALE = -7.0, 100.0
# Replaces 0, whose logit is infinite. All other uniform numbers are larger.
_LEAST_UNIFORM = 2.0**-54


@dataclass(frozen=True)
class LogisticMixture:
    """One mixture per pixel, in float64, from the network's outputs.

    ``logits`` (..., mixtures) are those of the components. ``components`` is (..., channels, kinds,
    mixtures). Its kinds are mean and log scale, and for 3 channels the coefficients before tanh: of red in
    green, of red in blue, of green in blue.
    """

    logits: NDArray[np.float64]
    components: NDArray[np.float64]

    @classmethod
    def from_params(cls, params: NDArray[np.floating], channels: int) -> LogisticMixture:
        """Read a network's outputs (..., d_output) for 1 or 3 channels. Raises ConfigError."""
        mixtures = mixture_count(params.shape[-1], channels)
        exact: NDArray[np.float64] = params.astype(np.float64)
        components = exact[..., mixtures:].reshape(*params.shape[:-1], channels, -1, mixtures)
        return cls(exact[..., :mixtures], components)

    def log_likelihood(self, levels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Natural logarithm of the probability of pixels: levels (..., channels) -> (...)."""
        by_component = self.logits + self.component_log_likelihood(levels).sum(-2)
        return _log_sum_exp(by_component) - _log_sum_exp(self.logits)

    def component_log_likelihood(self, levels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Log-likelihood of each channel in each component, given the channels before it.

        levels (..., channels) -> (..., channels, mixtures). With the bin's upper and lower edge a > b
        in units of the scale, sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)). The
        logarithms of these three factors stay accurate for every small probability.
        """
        k = levels[..., None].astype(np.int64)
        centred = k / 127.5 - 1 - self._means_given(levels)
        per_scale = 1 / _scales(self.components[..., 1, :])
        below_upper_edge = -np.logaddexp(0, -(centred + _HALF_BIN) * per_scale)
        above_lower_edge = -np.logaddexp(0, (centred - _HALF_BIN) * per_scale)
        between = np.log(-np.expm1(-2 * _HALF_BIN * per_scale))
        lowest, highest = k == 0, k == LEVELS - 1
        log_p: NDArray[np.float64] = np.where(highest, 0.0, below_upper_edge)
        log_p += np.where(lowest, 0.0, above_lower_edge)
        log_p += np.where(lowest | highest, 0.0, between)
        return log_p

    def sample(self, uniforms: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.uint8]:
        """Draw pixels by inversion from independent numbers in [0, 1), (..., 1 + channels).

        The first number chooses the component, the others draw the channels. Returns levels
        (..., channels). Their distribution is exactly that of :meth:`log_likelihood`: each channel is
        rounded to its level before the next channel depends on it. ``temperature`` divides the logits and
        multiplies the scales.
        """
        drawn = self._draw_component(uniforms[..., :1], temperature)
        u = np.maximum(uniforms[..., 1:], _LEAST_UNIFORM)
        noise = _scales(drawn.components[..., 1, 0]) * (np.log(u) - np.log1p(-u)) * temperature
        levels = np.zeros(noise.shape, np.uint8)
        for channel in range(noise.shape[-1]):
            # The mean of a channel depends only on the channels before it.
            x = drawn._means_given(levels)[..., channel, 0] + noise[..., channel]
            level = np.rint((x + 1) * 127.5)
            levels[..., channel] = np.minimum(np.maximum(level, 0), LEVELS - 1)
        return levels

    def _draw_component(self, uniform: NDArray[np.float64], temperature: float) -> LogisticMixture:
        """A mixture of a single component, which ``uniform`` (..., 1) selects."""
        logits = (self.logits - self.logits.max(-1, keepdims=True)) / temperature
        sums = np.exp(logits).cumsum(-1)
        # For uniform < 1 the rounded product is below the whole sum, so the index is always valid.
        component = (uniform * sums[..., -1:] >= sums).sum(-1)
        flat = self.components.reshape(-1, *self.components.shape[-3:])
        chosen = flat[np.arange(len(flat)), ..., component.reshape(-1), None]
        return LogisticMixture(np.zeros_like(uniform), chosen.reshape(*self.components.shape[:-1], 1))

    def _means_given(self, levels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Means (..., channels, mixtures) given levels (..., channels)."""
        means = self.components[..., 0, :]
        if self.components.shape[-2] == 2:
            return means
        x = levels[..., None] / 127.5 - 1
        coefficients = np.tanh(self.components[..., 2, :])
        red, green = x[..., 0, :], x[..., 1, :]
        means = means + np.zeros_like(x)  # a copy, broadcast to the pixels of ``levels``
        means[..., 1, :] += coefficients[..., 0, :] * red
        means[..., 2, :] += coefficients[..., 1, :] * red + coefficients[..., 2, :] * green
        return means


def mixture_count(d_output: int, channels: int) -> int:
    """Number of components for ``d_output`` outputs. Raises ConfigError if they do not form a mixture."""
    each = {1: 3, 3: 10}.get(channels)
    if each is None:
        raise ConfigError(f"the network predicts images of {channels} channels, expected 1 or 3")
    if d_output % each:
        raise ConfigError(
            f"the network has {d_output} outputs per step, expected a multiple of {each}: a mixture of "
            f"discretized logistics for {channels} channel{'s' if channels > 1 else ''}"
        )
    return d_output // each


def _scales(log_scales: NDArray[np.float64]) -> NDArray[np.float64]:
    scales: NDArray[np.float64] = np.exp(np.minimum(np.maximum(log_scales, _MIN_LOG_SCALE), _MAX_LOG_SCALE))
    return scales


def _log_sum_exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(sum(exp(values))) over the last axis."""
    largest = values.max(-1, keepdims=True)
    total: NDArray[np.float64] = largest[..., 0] + np.log(np.exp(values - largest).sum(-1))
    return total
