"""Pooling of a stream other than its bundle's: the native engine can change it, a graph cannot."""

from __future__ import annotations

from multires_edge.runtime.manifest import StateSpec


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
