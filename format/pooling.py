"""Pooling of a stream: how it is written, "cumulative" or "window:N" in steps, and the states it needs."""

from __future__ import annotations

import re

from multires_edge.base.errors import ConfigError
from multires_edge.format.specs import StateSpec

MAX_WINDOW = 1 << 20  # three hours at 100 Hz


def window_of(pool: str | None) -> int | None:
    """Steps of "window:N"; None for "cumulative", and for a model that does not pool. Raises ConfigError."""
    if pool is None or pool == "cumulative":
        return None
    match = re.fullmatch(r"window:([0-9]{1,9})", pool)
    if match is None or not 1 <= int(match[1]) <= MAX_WINDOW:
        raise ConfigError(f"pool is {pool!r}, expected cumulative, or window:N with N from 1 to {MAX_WINDOW}")
    return int(match[1])


def pooled_states(states: tuple[StateSpec, ...], window: int | None) -> tuple[StateSpec, ...]:
    """A classifier's states with those of another pooling in place of its own."""
    d_model = next(int(state.shape[1]) for state in states if state.input == "pool_sum")
    names = ["pool_sum", "pool_sum_error"]
    if window:
        names += ["pool_block", "pool_block_error"]
    pooling = [StateSpec(name, f"next_{name}", "float32", ("batch", d_model)) for name in names]
    if window:
        shape = ("batch", 1, window + 1, 2 * d_model)
        pooling.append(StateSpec("pool_prefix", "next_pool_prefix", "float32", shape, in_place=True))
    kept = (state for state in states if not state.input.startswith("pool_"))
    return (*kept, *pooling)
