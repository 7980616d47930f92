"""One step of a program in PyTorch: the reference of a step, written apart from the graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from multires_edge.export.trace.program import (
    Convolution,
    Cut,
    Delay,
    FilterBank,
    Filtered,
    Layout,
    Operator,
    Pad,
    Pool,
    Program,
    Recurrence,
    Ref,
    Reshape,
    Ring,
)

Values = dict[str, torch.Tensor]


class StepExecutor:
    """Streams of a program, one row of the batch each. Each row counts its own steps."""

    def __init__(self, program: Program, batch: int) -> None:
        self.program = program
        self.batch = batch
        self.position = torch.zeros(batch, dtype=torch.int64)
        self.rings = {
            ring.name: torch.zeros(batch, ring.slots, ring.width, dtype=ring.dtype) for ring in program.rings
        }
        self.pools: Values = {}

    def reset(self, row: int) -> None:
        """Restart one row."""
        for state in (self.position, *self.rings.values(), *self.pools.values()):
            state[row] = 0

    @torch.no_grad()
    def step(self, inputs: Mapping[str, torch.Tensor]) -> Values:
        """The outputs of a step, without an axis of time, for inputs (batch, ...) of the step."""
        program = self.program
        values: Values = dict(program.constants)
        for name in program.inputs:
            values[name] = inputs[name].unsqueeze(-1)
        pushed: dict[str, tuple[Ring, torch.Tensor]] = {}
        banks = {bank.name: self._taps(bank) for bank in program.banks}
        for each in program.instructions:
            layout = program.layouts[each.name]
            if isinstance(each, Operator):
                values[each.name] = run_operator(each, values, layout, self.batch)
            elif isinstance(each, Filtered):
                y = self._filtered(each, banks[each.bank.name], values)
                values[each.name] = y.reshape(layout.sizes(self.batch))
            else:
                source = values[each.source.name]
                if isinstance(each, Delay | Convolution) and each.ring is not None:
                    pushed[each.ring.name] = each.ring, source
                values[each.name] = self._over_time(each, source, layout, values)
        for bank in program.banks:
            pushed |= self._rows(bank, banks[bank.name], values)
        slots = self.position
        for ring, value in pushed.values():
            self.rings[ring.name][torch.arange(self.batch), slots % ring.slots] = value.reshape(
                self.batch, -1
            )
        self.position = self.position + 1
        outputs = {}
        for name, output in program.outputs.items():
            axis = program.layouts[output].axis
            outputs[name] = values[output] if axis is None else values[output].squeeze(axis)
        return outputs

    def _over_time(
        self,
        each: Reshape | Pad | Cut | Delay | Convolution | Pool | Recurrence,
        source: torch.Tensor,
        layout: Layout,
        values: Values,
    ) -> torch.Tensor:
        if isinstance(each, Reshape):
            return source.reshape(layout.sizes(self.batch))
        if isinstance(each, Pad):
            return self._mask(source, each)
        if isinstance(each, Delay):
            return self._past(each.ring)[:, 0].reshape(source.shape)
        if isinstance(each, Convolution):
            return self._convolve(source, each, values)
        axis = self.program.layouts[each.source.name].axis
        if isinstance(each, Cut) or axis is None:
            return source
        return (
            self._pool(source, each, axis)
            if isinstance(each, Pool)
            else self._recur(source, each, axis, values)
        )

    def _past(self, ring: Ring) -> torch.Tensor:
        """The rows of a ring at its delays, the newest first: (batch, taps, width)."""
        delays = torch.tensor(ring.delays)
        times = self.position[:, None] - delays
        rows = self.rings[ring.name][torch.arange(self.batch)[:, None], times % ring.slots]
        if ring.before is None:
            return rows
        return torch.where((times < 0)[..., None], ring.before, rows)

    def _taps(self, bank: FilterBank) -> torch.Tensor:
        """The taps of a bank (batch, taps, width)."""
        return torch.cat([self._past(ring) for ring in bank.rings], 1)

    def _filtered(self, each: Filtered, taps: torch.Tensor, values: Values) -> torch.Tensor:
        part = each.bank.channels(each.part)
        y = (taps[..., part] * each.bank.outputs[each.output, :, part]).sum(1)
        y = y + each.bank.bias[each.output, part]
        for ref, factors in each.terms:
            y = y + factors * values[ref.name].reshape(self.batch, -1)
        return y

    def _rows(
        self, bank: FilterBank, taps: torch.Tensor, values: Values
    ) -> dict[str, tuple[Ring, torch.Tensor]]:
        """What the rings of a bank get at the end of a step."""
        sources = [
            torch.cat([values[ref.name].reshape(self.batch, -1) for ref in refs], 1) for refs in bank.sources
        ]
        rows: list[torch.Tensor] = []
        for row in bank.rows:
            terms = [(sources[i], factors) for i, factors in row.sources.items()]
            terms += [(rows[i], factors) for i, factors in row.rows.items()]
            terms += [(taps[:, i], factors) for i, factors in row.taps.items()]
            rows.append(row.bias + sum(factors * value for value, factors in terms))
        return {ring.name: (ring, row) for ring, row in zip(bank.rings, rows, strict=True)}

    def _mask(self, source: torch.Tensor, pad: Pad) -> torch.Tensor:
        early = self.position < pad.mask
        return torch.where(
            early.reshape(-1, *[1] * (source.dim() - 1)), torch.tensor(pad.value, dtype=source.dtype), source
        )

    def _convolve(self, source: torch.Tensor, each: Convolution, values: Values) -> torch.Tensor:
        window, near = source, list(each.dilations)
        if each.ring is not None:
            past = self._past(each.ring).flip(1).unbind(1)
            window = torch.cat([*(row.reshape(source.shape) for row in past), source], each.axis)
            near[each.spatial] = 1
        bias = None if each.bias is None else values[each.bias.name]
        weight = values[each.weight.name]
        return torch.convolution(
            window, weight, bias, each.strides, each.padding, near, False, [0] * len(near), each.groups
        )

    def _pool(self, source: torch.Tensor, each: Pool, axis: int) -> torch.Tensor:
        if each.state is None:
            return source if each.keep else source.squeeze(axis)
        state = self.pools.setdefault(each.state, torch.zeros_like(source))
        first = (self.position == 0).reshape(-1, *[1] * (source.dim() - 1))
        new = (
            torch.where(first, source, torch.maximum(state, source)) if each.how == "max" else state + source
        )
        self.pools[each.state] = new
        if each.how == "mean":
            new = new / (self.position + 1).reshape(-1, *[1] * (source.dim() - 1))
        return new if each.keep else new.squeeze(axis)

    def _recur(self, source: torch.Tensor, each: Recurrence, axis: int, values: Values) -> torch.Tensor:
        x = source.squeeze(axis)
        weights = [values[weight.name] for weight in each.weights]
        zeros = x.new_zeros(self.batch, each.width)
        states = [self.pools.setdefault(name, zeros.clone()) for name in each.states]
        new: tuple[torch.Tensor, ...]
        if each.kind == "lstm":
            new = torch.lstm_cell(x, states, *weights)
        else:
            new = (torch.gru_cell(x, *states, *weights),)
        self.pools.update(zip(each.states, new, strict=True))
        return new[0].unsqueeze(axis)


def run_operator(
    each: Operator, values: Mapping[str, torch.Tensor], layout: Layout, batch: int
) -> torch.Tensor:
    """An operator on values of one step, which have time as an axis of size 1."""

    def filled(argument: Any) -> Any:
        if isinstance(argument, Ref):
            return values[argument.name]
        if isinstance(argument, tuple | list):
            return [filled(item) for item in argument]
        return argument

    args = [filled(argument) for argument in each.args]
    if each.kind == "expand":
        expanded: torch.Tensor = args[0].expand(layout.sizes(batch))
        return expanded
    result: torch.Tensor = each.target(*args, **{key: filled(value) for key, value in each.options.items()})
    return result
