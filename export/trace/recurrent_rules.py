"""Rules for LSTM and GRU: what they remember is a state of the stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import fx

from multires_edge.export.trace.index_rules import IndexRules
from multires_edge.export.trace.program import BATCH, Layout, Operator, Recurrence, Ref
from multires_edge.export.trace.signals import Signal
from multires_edge.export.trace.tracing import base_name, refusal
from multires_edge.export.trace.values import Fill, path_of

aten = torch.ops.aten


class RecurrentRules(IndexRules):
    """Layers that remember."""

    def recurrence(
        self,
        node: fx.Node,
        x: Ref,
        start: Any,
        weights: Sequence[Any],
        biases: bool,
        layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> Any:
        """All layers of an LSTM or a GRU, with the value of its last steps."""
        kind: Literal["lstm", "gru"] = "lstm" if base_name(node.target) == "lstm" else "gru"
        self._constants_only(node, *weights)
        if bidirectional:
            raise refusal(node, "is bidirectional: it reads the steps from the last to the first too")
        if train and dropout:
            raise refusal(node, "drops values at random: call eval() on every part of the module")
        if not all(_is_zero(state) for state in (start if isinstance(start, list | tuple) else [start])):
            raise refusal(node, "starts from states of its own; a stream starts from zeros")
        each = (4 if biases else 2) * layers
        if len(weights) != each:
            raise refusal(node, "projects its state (proj_size), which has no rule for streams")
        signal = self._signal(x)
        shape, axis = signal.layout.shape, signal.layout.axis
        if len(shape) != 3 or axis != (1 if batch_first else 0) or shape[0 if batch_first else 1] != BATCH:
            wanted = "(batch, time, features)" if batch_first else "(time, batch, features)"
            raise refusal(node, f"reads ({', '.join(map(str, shape))}), expected {wanted}")
        self._check_complete(node, signal)
        if signal.layout.extra:
            raise refusal(node, f"reads {signal.layout.extra} steps more than the input has")
        lasts = []
        per_layer = len(weights) // layers
        for layer in range(layers):
            own = weights[layer * per_layer : (layer + 1) * per_layer]
            name, width = f"{path_of(node)}/{layer}", own[1].shape[1]
            layout = replace(signal.layout, shape=(*shape[:2], width))
            refs = tuple(self._constant(node, weight, f"{layer}_{part}") for part, weight in enumerate(own))
            x = self._emit(Recurrence(name, x, kind, refs, width), Signal(layout, reach=signal.reach))
            last = self._pool(node, x, "last", keep=False, name=f"{name}/last")
            row = Layout((1, BATCH, width), layout.dtype)
            lasts.append(self._reshaped(node, last, row, f"{name}/row"))
        state = lasts[0]
        if layers > 1:
            stacked = replace(self._signal(state), layout=Layout((layers, BATCH, width), layout.dtype))
            how = (tuple(lasts), 0)
            state = self._emit(Operator(f"{path_of(node)}/last", "cat", aten.cat.default, how), stacked)
        memory = [refusal(node, "reads the memory behind the last step")] if kind == "lstm" else []
        return x, state, *memory


def _is_zero(state: Any) -> bool:
    if isinstance(state, Fill):
        return state.value == 0
    return isinstance(state, torch.Tensor) and not bool(state.any())
