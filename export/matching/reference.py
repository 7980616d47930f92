"""Compare a network with the module that it was found in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from multires_edge.export.matching.forms import UnmatchedError
from multires_edge.export.own_module import OwnModule
from multires_edge.export.trace.noise import SEED
from multires_edge.export.trace.program import TIME, Operator, Program
from multires_edge.export.trace.proof import ROWS, prefixes_of
from multires_edge.export.trace.tracing import output_tensors
from multires_edge.format.comparison import Check, Limit
from multires_edge.models.depthwise import fast_depthwise
from multires_edge.models.network import MultiresNet

_EXACT = Limit(1e-10)
_ROUNDED = Limit(1e-6)  # of a module that casts to float32 inside


def outputs_of(net: nn.Module, program: Program, inputs: NDArray[Any]) -> NDArray[np.float64]:
    """The module's outputs, with time as the last axis where they have one."""
    x = torch.from_numpy(np.ascontiguousarray(inputs))
    with fast_depthwise():
        (y,) = output_tensors(net(x.double() if x.is_floating_point() else x))
    array: NDArray[np.float64] = y.double().numpy()
    (output,) = program.outputs.values()
    axis = program.layouts[output].axis
    return array if axis is None else np.moveaxis(array, axis, -1)


def compared(
    module: nn.Module,
    program: Program,
    example: Sequence[Tensor],
    net: MultiresNet,
    progress: Callable[[str], None] = lambda _: None,
) -> OwnModule:
    """Compare a network with the module that it was found in, both in float64, on every prefix.

    Raises UnmatchedError if they differ.
    """
    progress("comparing the network with the module")
    count = sum(parameter.numel() for parameter in net.parameters())
    prefixes = prefixes_of(program, count)
    steps = int(prefixes[-1])
    inputs = _noise(net, example[0], steps)
    description = f"{ROWS} rows, {len(prefixes)} prefixes of up to {steps:,} steps"
    check = Check("your module in float64, every prefix", "full", description, "fp32")
    rounds = any(isinstance(each, Operator) and each.kind == "to" for each in program.instructions)
    check.limit = _ROUNDED if rounds else _EXACT
    x = torch.from_numpy(inputs)
    if net.config.shifts:  # a stream of the network takes the input of the step before
        x = torch.nn.functional.pad(x[..., :-1], (1, 0))
    exact = net if next(net.parameters()).dtype == torch.float64 else _in_float64(net)
    with fast_depthwise():
        stepwise = exact.stepwise(x.double() if x.is_floating_point() else x).numpy()
    for length in prefixes:
        y = outputs_of(module, program, inputs[..., :length])
        last = y[..., -1] if _per_step(program) else y
        check.compare(stepwise[..., length - 1, None], last[..., None], start=int(length) - 1, over_time=True)
    if not check.passed:
        raise UnmatchedError(f"the network that was found differs from the module by {check.error:.1e}")
    return OwnModule(partial(outputs_of, module, program), check)


def _per_step(program: Program) -> bool:
    (output,) = program.outputs.values()
    return TIME in program.layouts[output].shape


def _in_float64(net: MultiresNet) -> MultiresNet:
    copied = MultiresNet(net.config).double()
    copied.load_state_dict(net.state_dict())
    return copied.eval()


def _noise(net: MultiresNet, example: Tensor, steps: int) -> NDArray[Any]:
    """Inputs (rows, d_input, steps) with the mean and spread of the example, or tokens (rows, steps)."""
    random = np.random.default_rng(SEED)
    if net.config.encoder == "token":
        return random.integers(0, net.config.n_tokens or 1, (ROWS, steps))
    mean, spread = float(example.mean()), float(example.std()) or 1.0
    noise = random.standard_normal((ROWS, net.config.channels, steps))
    return (mean + spread * noise).astype(np.float32)
