"""Export a PyTorch module of the user: as a MultiresNet where it is one, else as it was traced."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from multires_edge.base.errors import ConfigError, ModuleError
from multires_edge.base.files import sha256_of
from multires_edge.base.names import printable
from multires_edge.export.bundle import ExportResult, Given, ParityError, export_network
from multires_edge.export.matching.forms import UnmatchedError
from multires_edge.export.matching.network import match_network
from multires_edge.export.matching.reference import compared
from multires_edge.export.options import ExportOptions, output_folder
from multires_edge.export.own_module import OwnModule
from multires_edge.export.trace.module import ModuleParityError, ModuleResult, class_of, export_traced
from multires_edge.export.trace.planning import KNOWN, Plan, make_plan
from multires_edge.export.trace.tracing import in_float64, trace
from multires_edge.format.card import read_card
from multires_edge.format.specs import Source
from multires_edge.models.network import MultiresNet
from multires_edge.models.threads import one_thread
from multires_edge.runtime.evaluation.recordings import load_data

# The fields of ExportOptions, as the command names them.
_FOR_MULTIRESNETS = {"pool": "pool", "card": "card", "lengths": "lengths"}

Example = torch.Tensor | Sequence[torch.Tensor]


def export_module(
    net: nn.Module,
    example: Example,
    output: str | Path,
    options: ExportOptions | None = None,
    *,
    force: bool = False,
    source: Path | None = None,
    weights: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
    **changes: Any,
) -> ExportResult | ModuleResult:
    """Export a module of your own to a bundle folder, and prove it against the module.

    ``net`` is in eval mode and maps its inputs to one tensor or several. ``example`` is one input or a tuple
    of all: float32 (batch, channels, time), or tokens (batch, time) int64; only its shapes, spread and tokens
    count. Time is the last axis of every input. ``source`` is the file of the weights, and ``weights`` the
    name of the network in it; both are for the manifest.

    A module that computes what a MultiresNet computes is exported as such, with all ``options`` of
    :func:`export_bundle`; ``changes`` are fields of these. Any other module has ONNX graphs alone, and all
    options but ``pool``, ``card`` and ``lengths``.
    Raises ModuleError for a module that is not causal or has an operator without a rule, and ConfigError for
    options that it cannot have (nothing is written); ParityError or ModuleParityError when a check fails (the
    bundle is written, and must not be used).

    >>> import torch
    >>> from multires_edge.export import export_module
    >>> class Smooth(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.conv = torch.nn.Conv1d(2, 3, kernel_size=4)
    ...     def forward(self, x):
    ...         return torch.relu(self.conv(torch.nn.functional.pad(x, (3, 0))))
    >>> result = export_module(Smooth().eval(), torch.randn(1, 2, 50), "out/smooth.bundle")
    >>> result.passed, result.manifest.network.receptive_field
    (True, 4)
    """
    given = (example,) if isinstance(example, torch.Tensor) else tuple(example)
    options = replace(options or ExportOptions(), **changes)
    final = output_folder(Path(output), output)
    if options.overrides is not None:
        raise ConfigError("overrides are for checkpoints; the module alone says what it computes")
    options.check(None, final, force=force)
    result = _export(net, given, final, options, force, source, weights, progress)
    if not result.passed:
        raise ParityError(result) if isinstance(result, ExportResult) else ModuleParityError(result)
    return result


@one_thread()
def _export(
    net: nn.Module,
    example: tuple[torch.Tensor, ...],
    final: Path,
    options: ExportOptions,
    force: bool,
    file: Path | None,
    weights: str | None,
    progress: Callable[[str], None],
) -> ExportResult | ModuleResult:
    started = time.perf_counter()
    _check_example(example)
    progress("tracing the module")
    reference = in_float64(net, example)
    plan = make_plan(trace(reference, example, KNOWN))
    source = _source(net, file, weights)
    try:
        found, own = _match(reference, plan, example, progress)
    except UnmatchedError as error:
        unmatched = plan.at(error.at, str(error))
        _check_options(options, unmatched)
        return export_traced(
            net, reference, example, plan, unmatched, final, options,
            force=force, source=source, started=started, progress=progress,
        )  # fmt: skip
    card = None if options.card is None else read_card(options.card, found.config)
    dataset = None if options.verify_data is None else load_data(options.verify_data, found.config, card)
    matched = Given(found, replace(source, module=class_of(net)), card, dataset, options.pool, own)
    return export_network(matched, final, options, started=started, force=force, progress=progress)


def _match(
    reference: nn.Module, plan: Plan, example: Sequence[torch.Tensor], progress: Callable[[str], None]
) -> tuple[MultiresNet, OwnModule]:
    """The network in a module, compared with it. Raises UnmatchedError."""
    progress("looking for the network in the module")
    found = match_network(plan.program)
    return found, compared(reference, plan.program, example, found, progress)


def _check_options(options: ExportOptions, unmatched: str) -> None:
    """Raise ConfigError for options that are for MultiresNets alone."""
    defaults = ExportOptions()
    for name, option in _FOR_MULTIRESNETS.items():
        if getattr(options, name) != getattr(defaults, name):
            raise ConfigError(
                f"--{option} is for MultiresNets, and the module is none: {unmatched}. Without it the module "
                "is exported as it is, as ONNX graphs"
            )


def _check_example(example: Sequence[Any]) -> None:
    if not example:
        raise ModuleError("the example is empty, expected one tensor for each input of the module")
    for i, each in enumerate(example):
        if not isinstance(each, torch.Tensor):
            raise ModuleError(f"input {i} of the example is a {type(each).__name__}, expected a tensor")
        if each.dtype not in (torch.float32, torch.int64):
            raise ModuleError(f"input {i} of the example is {each.dtype}, expected float32 or int64")
        if each.dim() < 2 or not each.numel():
            raise ModuleError(
                f"input {i} of the example has shape {tuple(each.shape)}, expected (batch, channels, time) "
                "or, for tokens, (batch, time)"
            )
        if each.is_floating_point() and not math.isfinite(float(each.abs().max())):
            raise ModuleError(f"input {i} of the example has NaN or infinite values")


def _source(net: nn.Module, source: Path | None, weights: str | None) -> Source:
    """The file of the weights, or else the module with a digest of its parameters and buffers."""
    if source is not None:
        return Source(printable(source.name), sha256_of(source), weights)
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return Source(class_of(net), digest.hexdigest())
