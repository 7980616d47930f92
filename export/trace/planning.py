"""Turns a trace into a program for streams.

Each operator that mixes steps has a rule; all others run on one step as they are. Which axis is time follows
from the symbolic shapes of the trace. An operator without a rule is refused by its name and the line of the
user's code, when an output depends on its value.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import fx

from multires_edge.base.errors import ModuleError
from multires_edge.export.trace.axis_rules import OF_A_TABLE
from multires_edge.export.trace.channel_rules import ALONG
from multires_edge.export.trace.filters import with_banks
from multires_edge.export.trace.operators import OPERATORS
from multires_edge.export.trace.program import (
    BATCH,
    MERGED,
    Instruction,
    Pool,
    Program,
    Recurrence,
    Ref,
    references,
    with_numbered_rings,
)
from multires_edge.export.trace.recurrent_rules import RecurrentRules
from multires_edge.export.trace.signals import Signal
from multires_edge.export.trace.tracing import Trace, base_name, refusal
from multires_edge.export.trace.values import Fill, path_of

_Rule = Callable[..., Any]


@dataclass(frozen=True)
class Plan:
    """The program, how many tokens each integer input knows, and the traced nodes by their paths.

    ``least_steps`` is how many steps the trace needs to hold.
    """

    program: Program
    tokens: dict[str, int]
    nodes: dict[str, fx.Node]
    least_steps: int = 1

    @cached_property
    def step(self) -> Program:
        """The program of a step: the same with its filters in banks."""
        return with_banks(self.program)

    def at(self, instruction: str | None, why: str) -> str:
        """A reason with the operator and the line of the user's code that an instruction comes from."""
        while instruction:
            if instruction in self.nodes:
                return str(refusal(self.nodes[instruction], why))
            instruction = instruction.rpartition("/")[0]
        return why


def make_plan(trace: Trace) -> Plan:
    """The program of a trace. Raises ModuleError for what no stream can do."""
    if trace.fixed is not None:
        # Some operators fix a size. Their names say more than the size.
        for node in trace.graph.nodes:
            if base_name(node.target) in KNOWN - _RULES.keys() - FILLS - {"sym_size"}:
                raise refusal(node, "has no rule for streams")
        for node in trace.graph.nodes:
            if base_name(node.target) == "slice" and node.args[0].name in trace.constants:
                raise refusal(node, OF_A_TABLE)
        raise trace.fixed
    return Planner(trace).run()


class Planner(RecurrentRules):
    """Applies the rule of each node, in the order of the trace."""

    def run(self) -> Plan:
        outputs: dict[str, str] = {}
        for node in self.trace.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node)
            elif node.op == "call_function":
                try:
                    self.values[node] = self._call(node)
                except ModuleError as error:
                    self.values[node] = error  # raised where something depends on the value
        for name, node in self.trace.outputs.items():
            outputs[name] = self._output(name, node)
        needed, kept = set(outputs.values()), []
        for name, instruction in reversed(self.instructions.items()):
            if name in needed:
                kept.append(instruction)
                needed |= set(references(instruction))
        layouts = {name: signal.layout for name, signal in self.signals.items() if name in needed}
        layouts |= {name: self.signals[name].layout for name in self.trace.inputs}
        constants = {name: tensor for name, tensor in self.constants.items() if name in needed}
        reach = max(self.signals[name].reach for name in outputs.values())
        program = Program(self.trace.inputs, outputs, tuple(reversed(kept)), layouts, constants, reach)
        nodes = {path_of(node): node for node in self.trace.graph.nodes if node.op == "call_function"}
        return Plan(_numbered(program), self.tokens, nodes, self.trace.least_steps)

    def _placeholder(self, node: fx.Node) -> None:
        if node.name in self.trace.constants:
            self.values[node] = self.trace.constants[node.name]
        elif node.name in self.trace.inputs:
            self.signals[node.name] = Signal(self.symbols.layout(node.meta["val"]))
            self.values[node] = Ref(node.name)

    def _output(self, name: str, node: fx.Node) -> str:
        ref = self._resolve(node)
        if isinstance(ref, Fill | torch.Tensor):
            raise ModuleError(f"output {name} does not depend on the inputs")
        signal = self.signals[ref.name]
        if signal.layout.shape[:1] != (BATCH,) or MERGED in signal.layout.shape:
            shape = ", ".join(map(str, signal.layout.shape))
            raise ModuleError(f"output {name} is ({shape}), expected the batch as its first axis")
        if signal.layout.axis is not None:
            self._check_complete(node, signal)
            if signal.layout.extra:
                more = "more" if signal.layout.extra > 0 else "fewer"
                raise ModuleError(
                    f"output {name} has {abs(signal.layout.extra)} steps {more} than the inputs, and a "
                    "stream has one output for each step: pad the past by dilation * (kernel size - 1)"
                )
        return str(ref.name)

    def _call(self, node: fx.Node) -> Any:
        value = node.meta.get("val")
        if node.target is operator.getitem:
            source, index = node.args
            assert isinstance(index, int)
            chosen = self._resolve(source)[index]
            if isinstance(chosen, ModuleError):
                raise chosen
            return chosen
        if value is None or not isinstance(value, torch.Tensor | tuple | list):
            return value  # a check, or a size
        name = base_name(node.target)
        if name in FILLS and (fill := self._fill(node, name)) is not None:
            return fill
        args: Any
        options: Any
        args, options = fx.node.map_arg((node.args, node.kwargs), self._resolve)
        rule = _RULES.get(name)
        fills = [each for each in args if isinstance(each, Fill)]
        if fills and rule in (Planner.reshape, Planner.permute, Planner.expand, Planner.identity):
            return Fill(self._layout(node), fills[0].value)
        args = self._numbers(node, name, args)
        if not list(references((args, tuple(options.values())))) and not _has_symbols((args, options)):
            with torch.no_grad():
                result = node.target(*args, **options)  # type: ignore[operator]
            return Fill(self._layout(node), float(result)) if fills else result
        if rule is None:
            raise refusal(node, _WHY.get(name, "has no rule for streams"))
        return self._applied(rule, node, args, options)

    def _applied(self, rule: _Rule, node: fx.Node, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        try:
            return rule(self, node, *args, **options)
        except ModuleError:
            raise
        except ValueError as error:
            raise refusal(node, str(error)) from error
        except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError) as error:
            raise refusal(node, "is used in a way that no stream has a rule for") from error

    def _numbers(self, node: fx.Node, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Arguments in which tensors of the same number everywhere are that number, if each step is alike."""
        rule = _RULES.get(name)
        fills = [each for each in args if isinstance(each, Fill)]
        if not fills or rule in (Planner.cat, Planner.recurrence):
            return args
        if rule is Planner.operator:
            return tuple(each.scalar() if isinstance(each, Fill) else each for each in args)
        if name == "cumsum":
            return (self.counted(node, fills[0]), *args[1:])
        raise refusal(node, _WHY.get(name, "takes the same number at each step; use the number itself"))


def _numbered(program: Program) -> Program:
    """The program with names for its rings and states, in the order in which they are read."""
    counts: dict[str, int] = {}

    def renamed(each: Instruction) -> Instruction:
        if isinstance(each, Pool) and each.state is not None:
            number = counts[each.state] = counts.get(each.state, -1) + 1
            return replace(each, state=f"{each.state}_{number:02d}")
        if isinstance(each, Recurrence):
            number = counts["recurrence"] = counts.get("recurrence", -1) + 1
            return replace(each, number=number)
        return each

    instructions = tuple(map(renamed, program.instructions))
    return with_numbered_rings(replace(program, instructions=instructions))


def _has_symbols(values: Any) -> bool:
    if isinstance(values, dict):
        return _has_symbols(tuple(values.values()))
    if isinstance(values, tuple | list):
        return any(map(_has_symbols, values))
    return isinstance(values, torch.SymInt | torch.SymFloat | torch.SymBool | Fill)


FILLS = frozenset(
    {"zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"}
)
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(OPERATORS, Planner.operator),
    **dict.fromkeys(ALONG, Planner.along),
    **dict.fromkeys(("contiguous", "clone", "alias", "detach", "lift_fresh_copy"), Planner.identity),
    **dict.fromkeys(("to", "_to_copy", "type_as"), Planner.convert),
    **dict.fromkeys(
        ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"), Planner.dropout
    ),
    **dict.fromkeys(
        ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze"), Planner.reshape
    ),
    **dict.fromkeys(("permute", "transpose", "t"), Planner.permute),
    **dict.fromkeys(("expand", "expand_as"), Planner.expand),
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "unbind"), Planner.split),
    **dict.fromkeys(("conv1d", "conv2d", "convolution"), Planner.convolution),
    **dict.fromkeys(("mean", "sum", "amax", "amin"), Planner.mean),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_max_pool1d"), Planner.adaptive_pool),
    **dict.fromkeys(("layer_norm", "rms_norm"), Planner.norm),
    **dict.fromkeys(("group_norm", "instance_norm"), Planner.group_norm),
    **dict.fromkeys(("pad", "constant_pad_nd"), Planner.pad),
    **dict.fromkeys(("matmul", "mm"), Planner.matmul),
    **dict.fromkeys(("lstm", "gru"), Planner.recurrence),
    "avg_pool1d": Planner.avg_pool,
    "max_pool1d": Planner.max_pool,
    "einsum": Planner.einsum,
    "linear": Planner.linear,
    "embedding": Planner.embedding,
    "batch_norm": Planner.batch_norm,
    "_native_batch_norm_legit_no_training": Planner.decomposed_batch_norm,
    "cat": Planner.cat,
    "stack": Planner.stack,
    "select": Planner.select,
    "slice": Planner.slice,
    "index": Planner.index,
    "index_select": Planner.index_select,
    "flip": Planner.flip,
    "roll": Planner.roll,
    "repeat": Planner.repeat,
    "repeat_interleave": Planner.repeat_interleave,
    "copy": Planner.copy,
    "slice_scatter": Planner.slice_scatter,
    "select_scatter": Planner.select_scatter,
    "unfold": Planner.unfold,
    "max": Planner.max,
    "cumsum": Planner.cumsum,
}
_FOURIER = ("fft_rfft", "fft_irfft", "fft_fft", "fft_ifft", "fft_hfft", "fft_ihfft", "stft", "istft")
# Why an operator has no rule.
_WHY = {
    **dict.fromkeys(
        _FOURIER,
        "transforms all steps at once; convolve by conv1d(pad(x, (taps - 1, 0)), filters, groups=channels)",
    ),
    "arange": "numbers the steps; count them by torch.ones_like(x[:, :1]).cumsum(-1), of an input x",
    "cummax": "has no rule for streams; give the values, and take their maximum with amax",
}
# Operators that PyTorch need not decompose: those above, and those refused by the name that the user knows.
KNOWN = frozenset(_RULES) | {
    *_FOURIER, "cummax", "sort", "topk", "argmax", "argmin", "var", "std", "cumprod", "logsumexp",
    "scaled_dot_product_attention", "bmm", "baddbmm", "rnn_tanh", "rnn_relu",
    "conv_transpose1d", "conv_transpose2d", "upsample_nearest1d", "sym_size",
    "upsample_linear1d", "arange", "min", "prod", "median", "gather", "scatter",
    "_assert_tensor_metadata",
    *FILLS,
}  # fmt: skip
