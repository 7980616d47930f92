"""Trace a user's module with ``torch.export``, for any batch and any number of steps."""

from __future__ import annotations

import copy
import inspect
import linecache
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from multires_edge.base.errors import ModuleError
from multires_edge.export.trace.symbolic_operators import symbolic_operators
from multires_edge.format.fields import shortened
from multires_edge.models.depthwise import fast_depthwise

_TORCH = str(Path(torch.__file__).parent)  # its lines say nothing of the user's module
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)\n\s*(?P<code>.*)')

_TRACED_FROM = 2  # torch.export says so of every size


@dataclass(frozen=True)
class Trace:
    """A module's graph in float64.

    ``constants`` are its parameters and buffers by the name of their placeholder. ``inputs`` are the names of
    the inputs in order, ``outputs`` the nodes that are returned, by name. ``batches`` and ``times`` are the
    symbols of the sizes that may change, in the shapes of the nodes. ``fixed`` is the error of a module that
    works with one of these sizes only; None if they are free. With fewer than ``least_steps`` the module may
    compute something else.
    """

    graph: fx.Graph
    constants: dict[str, torch.Tensor]
    inputs: tuple[str, ...]
    outputs: dict[str, fx.Node]
    batches: frozenset[Any]
    times: frozenset[Any]
    fixed: ModuleError | None
    least_steps: int


def in_float64(net: nn.Module, example: Sequence[torch.Tensor]) -> nn.Module:
    """A copy of the module in float64, which is the reference of every check. Raises ModuleError."""
    if net.training:
        raise ModuleError("the module is in training mode: call its eval() before the export")
    try:
        with torch.no_grad():
            # Weights that hooks compute are without a gradient afterwards, and can be copied.
            output_names(net(*example))
            reference = copy.deepcopy(net).double().requires_grad_(False)
    except ModuleError:
        raise
    except Exception as error:
        raise ModuleError(f"the module cannot run on the example: {shortened(str(error))}") from error
    try:
        with fast_depthwise():
            reference(*(each.double() if each.is_floating_point() else each for each in example))
    except Exception as error:
        raise ModuleError(
            "the module cannot run in float64, in which it is the reference: hold tensors as parameters or "
            f"buffers ({shortened(str(error))})"
        ) from error
    return reference


def trace(net: nn.Module, example: Sequence[torch.Tensor], known: frozenset[str]) -> Trace:
    """Trace a module in float64. Operators that are not ``known`` are decomposed where PyTorch can.

    ``example`` has float tensors (batch, ..., time) and integer tensors (batch, time). Raises ModuleError.
    """
    inputs = tuple(each.double() if each.is_floating_point() else each for each in example)
    # Sizes of 0 and 1 would become constants of the graph.
    inputs = tuple(_at_least_two(each) for each in inputs)
    free = torch.export.Dim.AUTO
    shapes = tuple({0: free, each.dim() - 1: free} for each in inputs)
    forward = list(inspect.signature(net.forward).parameters.values())
    if forward and forward[0].kind is inspect.Parameter.VAR_POSITIONAL:
        shapes = (shapes,)  # type: ignore[assignment]  # torch.export takes forward(*x) as one argument
    try:
        with torch.no_grad(), symbolic_operators(), warnings.catch_warnings():
            # Of LSTM and GRU, which hold a list of their weights.
            warnings.filterwarnings("ignore", "The tensor attributes")
            exported = torch.export.export(net, inputs, dynamic_shapes=shapes, strict=False)
        for node in exported.graph.nodes:
            if base_name(node.target) == "wrap_with_autocast" and node.args[0] == "cpu" and node.args[2]:
                raise ModuleError(
                    f"the module computes in {node.args[1]} under torch.autocast(): give it enabled=False"
                )
        if any(_needs_decomposing(node, known) for node in exported.graph.nodes):
            exported = exported.run_decompositions(
                {
                    operator: function
                    for operator, function in dict(torch.export.default_decompositions()).items()
                    if base_name(operator) not in known
                }
            )
    except ModuleError:
        raise
    except Exception as error:
        raise ModuleError(
            "torch.export cannot trace the module for any batch and any number of steps: "
            f"{shortened(str(error))}"
        ) from error
    signature = exported.graph_signature
    if signature.buffers_to_mutate or signature.user_inputs_to_mutate:
        changed = ", ".join({**signature.buffers_to_mutate, **signature.user_inputs_to_mutate}.values())
        raise ModuleError(
            f"the module changes {changed} when it runs, so its outputs depend on earlier calls"
        )
    held = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = {name: _held(exported, target) for name, target in held.items()}
    lifted = signature.inputs_to_lifted_tensor_constants
    constants |= {name: exported.constants[target] for name, target in lifted.items()}
    placeholders = {node.name: node for node in exported.graph.nodes if node.op == "placeholder"}
    names = tuple(str(name) for name in signature.user_inputs)
    if len(names) != len(inputs):
        raise ModuleError(f"the module reads {len(names)} of the {len(inputs)} inputs")
    fixed = None
    for name in names:
        for axis, what in ((0, "batch"), (-1, "time")):
            size = placeholders[name].meta["val"].shape[axis]
            # A symbol that the module compared with a number has become that number.
            if isinstance(size, int) or size.node.expr.is_number:
                fixed = ModuleError(
                    f"the module works only with a size of {size} for {what}: take sizes from x.shape, not "
                    "from len(x), and decide nothing by them; inputs are (batch, channels, time) or tokens "
                    "(batch, time)"
                )
    return Trace(
        exported.graph,
        {name: tensor.detach() for name, tensor in constants.items()},
        names,
        _outputs(net, inputs, exported),
        frozenset(_symbol(placeholders[name].meta["val"].shape[0]) for name in names),
        frozenset(_symbol(placeholders[name].meta["val"].shape[-1]) for name in names),
        fixed,
        max(_least(exported, placeholders[name].meta["val"].shape[-1]) for name in names),
    )


def base_name(target: Any) -> str:
    """The name of an operator without its overload, such as ``conv1d`` for ``aten.conv1d.default``."""
    schema = getattr(target, "_schema", None)
    if schema is None:
        return str(getattr(target, "__name__", target))
    namespace, _, name = str(schema.name).partition("::")
    return name if namespace in ("aten", "multires_edge") else f"{namespace}.{name}"


def place(node: fx.Node) -> str:
    """The line of the user's code that a node comes from, such as ``model.py:12 (x.flip(-1))``."""
    frames = list(_FRAME.finditer(node.meta.get("stack_trace") or ""))
    if not frames:
        return "an unknown line"
    own = [frame for frame in frames if not frame["file"].startswith(_TORCH)]
    frame = (own or frames)[-1]
    code = frame["code"].strip() or linecache.getline(frame["file"], int(frame["line"])).strip()
    return f"{frame['file'].rpartition('/')[2]}:{frame['line']} ({shortened(code)})"


def refusal(node: fx.Node, why: str) -> ModuleError:
    """An error that names an operator and the line of the user's code that it comes from."""
    return ModuleError(f"{base_name(node.target)} in {place(node)} {why}")


def _least(exported: torch.export.ExportedProgram, size: Any) -> int:
    limits = exported.range_constraints.get(_symbol(size))
    least = 1 if limits is None else int(limits.lower)
    return 1 if least == _TRACED_FROM else least


def _symbol(size: Any) -> Any:
    return size if isinstance(size, int) else size.node.expr


def _at_least_two(example: torch.Tensor) -> torch.Tensor:
    for axis in (0, example.dim() - 1):
        if example.shape[axis] < 2:
            example = torch.cat([example] * 2, axis)
    return example


def _needs_decomposing(node: fx.Node, known: frozenset[str]) -> bool:
    schema = getattr(node.target, "_schema", None)
    if base_name(node.target).startswith("wrap_with_"):
        return True  # a block under torch.no_grad() or torch.autocast(), which changes nothing in float64
    return schema is not None and (base_name(node.target) not in known or bool(schema.is_mutable))


def _held(exported: torch.export.ExportedProgram, target: str) -> torch.Tensor:
    held: torch.Tensor = {**exported.constants, **exported.state_dict}[target]
    return held


def _outputs(
    net: nn.Module, inputs: Sequence[torch.Tensor], exported: torch.export.ExportedProgram
) -> dict[str, fx.Node]:
    """The returned nodes by name: keys of a dictionary, fields of a named tuple, else numbers."""
    with fast_depthwise():
        returned = net(*inputs)
    names = output_names(returned)
    (nodes,) = next(iter(reversed(exported.graph.nodes))).args
    assert isinstance(nodes, tuple)
    if len(nodes) != len(names) or not all(isinstance(node, fx.Node) for node in nodes):
        raise ModuleError("the module returns something besides tensors; return tensors alone")
    return dict(zip(names, nodes, strict=True))


def output_names(returned: Any) -> list[str]:
    """Names of the tensors that a module returned. Raises ModuleError."""
    if isinstance(returned, torch.Tensor):
        return ["y"]
    held = returned.values() if isinstance(returned, dict) else returned
    if isinstance(held, Iterable) and (wrong := [v for v in held if not isinstance(v, torch.Tensor)]):
        raise ModuleError(
            f"the module returns a {type(wrong[0]).__name__} among its outputs, expected tensors"
        )
    if isinstance(returned, dict) and all(isinstance(key, str) for key in returned):
        return [re.sub(r"[^A-Za-z0-9_.-]", "_", key) for key in returned]
    if isinstance(returned, tuple) and hasattr(returned, "_fields"):
        return list(returned._fields)
    if isinstance(returned, tuple | list):
        return [f"y{i}" for i in range(len(returned))]
    raise ModuleError(f"the module returns a {type(returned).__name__}, expected tensors")


def output_tensors(returned: Any) -> list[torch.Tensor]:
    """The tensors that a module returned, in the order of their names."""
    if isinstance(returned, torch.Tensor):
        return [returned]
    return list(returned.values() if isinstance(returned, dict) else returned)
