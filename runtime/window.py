"""How a pooling is written: "cumulative", or "window:N" in steps."""

from __future__ import annotations

import re

from multires_edge.runtime.errors import ConfigError

MAX_WINDOW = 1 << 20  # three hours at 100 Hz


def window_of(pool: str | None) -> int | None:
    """Steps of "window:N"; None for "cumulative", and for a model that does not pool. Raises ConfigError."""
    if pool is None or pool == "cumulative":
        return None
    match = re.fullmatch(r"window:([0-9]{1,9})", pool)
    if match is None or not 1 <= int(match[1]) <= MAX_WINDOW:
        raise ConfigError(f"pool is {pool!r}, expected cumulative, or window:N with N from 1 to {MAX_WINDOW}")
    return int(match[1])
