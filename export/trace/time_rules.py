"""Rules for operators that mix time: paddings are states, and what is over all time is a running value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from multires_edge.export.trace.channel_rules import ChannelRules
from multires_edge.export.trace.program import (
    BATCH,
    MERGED,
    TIME,
    Convolution,
    Cut,
    Delay,
    Layout,
    Operator,
    Pad,
    Pool,
    Pooled,
    Ref,
)
from multires_edge.export.trace.signals import Signal
from multires_edge.export.trace.tracing import base_name, refusal
from multires_edge.export.trace.values import path_of

aten = torch.ops.aten


class TimeRules(ChannelRules):
    """Operators over several steps."""

    def _cut(self, node: fx.Node, x: Ref, start: int, end: int, name: str = "") -> Ref:
        signal = self._signal(x)
        layout = replace(signal.layout, extra=signal.layout.extra - start - end)
        shift = signal.shift - start
        before = signal.before if shift > 0 else None
        return self._emit(
            Cut(name or path_of(node), x, start, end),
            replace(signal, layout=layout, shift=shift, before=before),
        )

    def pad(
        self, node: fx.Node, x: Ref, amounts: Sequence[int], mode: Any = "constant", value: Any = None
    ) -> Ref:
        if not isinstance(mode, str):
            mode, value = "constant", mode  # constant_pad_nd
        layout = self._signal(x).layout
        axis = layout.axis
        around = [list(amounts[i : i + 2]) for i in range(0, len(amounts), 2)]
        pads = dict(zip(range(len(layout.shape) - 1, -1, -1), around, strict=False))
        left, right = pads.pop(axis, [0, 0]) if axis is not None else [0, 0]
        if any(map(any, pads.values())):
            raise refusal(node, "pads another axis than time")
        if mode != "constant":
            raise refusal(node, f"pads by mode {mode!r}; a stream pads by a constant")
        if left < 0 or right < 0:
            x = self._cut(node, x, max(0, -left), max(0, -right), f"{path_of(node)}/cut")
        return self._pad(node, x, max(0, left), max(0, right), float(value or 0.0))

    def _pad(self, node: fx.Node, x: Ref, left: int, right: int, value: float, name: str = "") -> Ref:
        if left == right == 0:
            return x
        signal = self._signal(x)
        cut = self._cut_of(x)
        if signal.shift < 0 < left and not right and cut and self._signal(cut.source).shift <= 0:
            # A delay: padded before it is cut, it also works on sequences shorter than the delay.
            path = name or path_of(node)
            x = self._pad(node, cut.source, left, 0, value, f"{path}/pad")
            return self._cut(node, x, 0, cut.end, path)
        layout = replace(signal.layout, extra=signal.layout.extra + left + right)
        shift, cause, before = signal.shift + left, signal.cause, None
        if right and shift < layout.extra:
            cause = refusal(node, f"pads {right} steps of the future")
        if shift > 0:
            before = torch.full(layout.sizes(1), value, dtype=layout.dtype)
            if signal.shift > 0 and left and not torch.equal(before, signal.past):
                raise refusal(node, "pads a value that is padded by another constant")
            before = before if value and left else signal.before
        mask = max(0, -signal.shift) if left else 0
        instruction = Pad(name or path_of(node), x, left, right, value, mask)
        return self._emit(
            instruction, replace(signal, layout=layout, shift=shift, before=before, cause=cause)
        )

    def _cut_of(self, x: Ref) -> Cut | None:
        """The cut at the end that a value is, perhaps with the delay that the cut has made."""
        instruction = self.instructions.get(x.name)
        if isinstance(instruction, Delay):
            instruction = self.instructions.get(instruction.source.name)
        return instruction if isinstance(instruction, Cut) and not instruction.start else None

    def convolution(
        self,
        node: fx.Node,
        x: Ref,
        weight: Any,
        bias: Any = None,
        stride: Sequence[int] = (1,),
        padding: Any = (0,),
        dilation: Sequence[int] = (1,),
        *rest: Any,
    ) -> Ref:
        self._constants_only(node, weight, bias)
        groups = rest[-1] if rest else 1
        if len(rest) > 1 and rest[0]:
            raise refusal(node, "is transposed: it has several outputs for each step")
        layout = self._signal(x).layout
        spatial = weight.dim() - 2
        if layout.shape[:1] != (BATCH,) or layout.axis is None or len(layout.shape) != spatial + 2:
            raise refusal(
                node, f"reads ({', '.join(map(str, layout.shape))}), expected (batch, channels, time)"
            )
        if layout.axis == 1:
            raise refusal(node, "has time as its channels")
        strides, dilations = each_axis(stride, spatial), each_axis(dilation, spatial)
        sizes = list(weight.shape[2:])
        if isinstance(padding, str):
            total = [0 if padding == "valid" else d * (k - 1) for d, k in zip(dilations, sizes, strict=True)]
            pads = [(t // 2, t - t // 2) for t in total]
        else:
            pads = [(p, p) for p in each_axis(padding, spatial)]
        axis = layout.axis - 2
        if strides[axis] != 1:
            raise refusal(node, f"strides over {strides[axis]} steps")
        left, right = pads.pop(axis)
        if any(a != b for a, b in pads):
            raise refusal(node, "pads one side of another axis than time")
        path = path_of(node)
        x = self._pad(node, x, left, right, 0.0, f"{path}/pad")
        signal = self._signal(x)
        history = (sizes[axis] - 1) * dilations[axis]
        ring = self._ring(x, history + 1, dilations[axis]) if history else None
        source, left, right = x, 0, 0
        if isinstance(pad := self.instructions.get(x.name), Pad) and not pad.mask and pad.value == 0:
            source, left, right = pad.source, pad.left, pad.right
        instruction = Convolution(
            path,
            source,
            self._constant(node, weight, "weight"),
            None if bias is None else self._constant(node, bias, "bias"),
            layout.axis,
            left,
            right,
            strides,
            (*(a for a, _ in pads[:axis]), 0, *(a for a, _ in pads[axis:])),
            dilations,
            groups,
            ring,
        )
        out = self._layout(node)
        shift = signal.shift - history
        before = None
        if shift > 0:
            taps = [1] * len(out.shape)
            taps[layout.axis] = sizes[axis]
            near = [*dilations]
            near[axis] = 1
            window = signal.past.repeat(taps)
            before = torch.convolution(
                window, weight, bias, strides, instruction.padding, near, False, [0] * spatial, groups
            )
        reach = signal.reach + history
        return self._emit(instruction, Signal(out, shift, before, reach, signal.cause))

    def avg_pool(
        self,
        node: fx.Node,
        x: Ref,
        size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        ceil: bool = False,
        count_padding: bool = True,
    ) -> Ref:
        """The mean of a few steps: a convolution with equal weights."""
        steps, pad = self._window(node, x, size, stride, padding)
        if pad and not count_padding:
            raise refusal(node, "leaves its padding out of the mean; pad the past by torch.nn.functional.pad")
        layout = self._signal(x).layout
        channels = int(layout.shape[1])
        weight = torch.full((channels, 1, steps), 1 / steps, dtype=layout.dtype)
        return self.convolution(node, x, weight, None, (1,), (pad,), (1,), channels)

    def max_pool(
        self,
        node: fx.Node,
        x: Ref,
        size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        dilation: Sequence[int] = (1,),
        ceil: bool = False,
    ) -> Ref:
        """The maximum of a few steps, of two shorter windows that may overlap."""
        steps, pad = self._window(node, x, size, stride, padding)
        path, near = path_of(node), each_axis(dilation, 1)[0]
        x = self._pad(node, x, pad, pad, float("-inf"), f"{path}/pad")
        reach = 1
        while reach < steps:
            more = min(reach, steps - reach)
            older = self._cut(node, x, 0, more * near, f"{path}/older_{reach}")
            newer = self._cut(node, x, more * near, 0, f"{path}/newer_{reach}")
            older, newer = self._aligned(node, [older, newer])
            reach += more
            largest = Operator(f"{path}/{reach}", "maximum", aten.maximum.default, (older, newer))
            signal = self._joined([older, newer])
            if signal.shift > 0:
                before = torch.maximum(self._signal(older).past, self._signal(newer).past)
                signal = replace(signal, before=before)
            x = self._emit(largest, signal)
        return x

    def _window(
        self, node: fx.Node, x: Ref, size: Sequence[int], stride: Sequence[int], padding: Sequence[int]
    ) -> tuple[int, int]:
        """The steps and the padding of a pooling of each channel over a few steps."""
        layout = self._signal(x).layout
        if len(layout.shape) != 3 or layout.axis != 2 or layout.shape[0] != BATCH:
            raise refusal(
                node, f"reads ({', '.join(map(str, layout.shape))}), expected (batch, channels, time)"
            )
        if (strides := each_axis(stride or size, 1)[0]) != 1:
            raise refusal(node, f"strides over {strides} steps; give stride=1 for an output at each step")
        return each_axis(size, 1)[0], each_axis(padding, 1)[0]

    def mean(self, node: fx.Node, x: Ref, axes: Any = None, keep: bool = False, **_: Any) -> Ref:
        """Mean, sum or maximum, over time or over channels."""
        name = base_name(node.target)
        layout = self._signal(x).layout
        given = [axes] if isinstance(axes, int) else list(axes or range(len(layout.shape)))
        given = [axis % len(layout.shape) for axis in given]
        if any(layout.shape[axis] in (BATCH, MERGED) for axis in given):
            raise refusal(node, "mixes the streams of a batch")
        if layout.axis not in given:
            return self.operator(node, x, given, keep)
        how: Pooled = {"mean": "mean", "sum": "sum"}.get(name, "max")  # type: ignore[assignment]
        if name == "amin":
            raise refusal(node, "takes a minimum over time; take the maximum of the negative instead")
        if given == [layout.axis]:
            return self._pool(node, x, how, keep=keep)
        pooled = self._pool(node, x, how, keep=True, name=f"{path_of(node)}/over_time")
        return self.operator(node, pooled, given, keep)

    def max(self, node: fx.Node, x: Ref, *args: Any, **options: Any) -> Any:
        if not args:
            raise refusal(node, "mixes the streams of a batch")
        if isinstance(args[0], Ref | torch.Tensor):
            return self.operator(node, x, *args)
        axis = int(args[0]) % len(self._signal(x).layout.shape)
        if axis != self._signal(x).layout.axis:
            raise refusal(node, "takes a maximum with its place; use torch.amax")
        keep = bool(args[1]) if len(args) > 1 else bool(options.get("keepdim"))
        return self._pool(node, x, "max", keep=keep), refusal(node, "reads the place of a maximum over time")

    def adaptive_pool(self, node: fx.Node, x: Ref, size: Sequence[int]) -> Any:
        layout = self._signal(x).layout
        if list(size) != [1] or layout.axis != len(layout.shape) - 1:
            raise refusal(node, f"pools to {list(size)} steps, expected one")
        if "avg" in base_name(node.target):
            return self._pool(node, x, "mean", keep=True)
        return self._pool(node, x, "max", keep=True), refusal(node, "reads the place of a maximum over time")

    def cumsum(self, node: fx.Node, x: Ref, axis: int, **_: Any) -> Ref:
        if axis % len(self._signal(x).layout.shape) != self._signal(x).layout.axis:
            raise refusal(node, "sums along another axis than time")
        return self._pool(node, x, "cumsum", keep=True)

    def _pool(self, node: fx.Node, x: Ref, how: Pooled, *, keep: bool, name: str = "") -> Ref:
        signal = self._signal(x)
        axis = signal.layout.axis
        assert axis is not None
        self._check_complete(node, signal)
        if how != "last" and signal.layout.extra:
            raise refusal(node, f"takes a {how} over {signal.layout.extra} steps more than the input has")
        if signal.layout.shape[axis] == MERGED:
            raise refusal(node, "mixes the streams of a batch")
        size: tuple[int | str, ...] = (TIME,) if how == "cumsum" else (1,) if keep else ()
        shape = (*signal.layout.shape[:axis], *size, *signal.layout.shape[axis + 1 :])
        extra = signal.layout.extra if how == "cumsum" else 0
        state = None if how == "last" else {"mean": "sum", "cumsum": "sum"}.get(how, how)
        instruction = Pool(name or path_of(node), x, how, keep, state)
        return self._emit(instruction, Signal(Layout(shape, signal.layout.dtype, extra), reach=signal.reach))


def each_axis(values: Sequence[int] | int, count: int) -> tuple[int, ...]:
    """A number for each spatial axis."""
    listed = [values] if isinstance(values, int) else list(values)
    return tuple(listed * count if len(listed) == 1 else listed)
