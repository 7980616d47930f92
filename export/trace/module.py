"""Export a PyTorch module of the user to a bundle: trace it, build its graphs, prove them against it."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from multires_edge.base.errors import ModuleError
from multires_edge.base.files import sha256_of
from multires_edge.base.names import printable
from multires_edge.export.bundle import tools_used, write_graph, write_json
from multires_edge.export.bundle_folder import atomic_folder, check_output
from multires_edge.export.graphs.step import StepGraph
from multires_edge.export.options import output_folder
from multires_edge.export.report import GraphStatistics, write_report
from multires_edge.export.target_selection import forms_of, targets_named
from multires_edge.export.trace.graphs import build_traced_step_graph, build_whole_graph, onnx_type
from multires_edge.export.trace.planning import KNOWN, Plan, make_plan
from multires_edge.export.trace.program import Layout
from multires_edge.export.trace.proof import ModuleProof, prove_module
from multires_edge.export.trace.tracing import in_float64, trace
from multires_edge.format.comparison import failures
from multires_edge.format.fields import plain
from multires_edge.format.golden import GOLDEN_FILE
from multires_edge.format.manifest import FILE_NAME, Manifest
from multires_edge.format.module import ModuleConfig
from multires_edge.format.parity import PARITY_FILE
from multires_edge.format.specs import Source, TensorSpec
from multires_edge.format.targets import FORMS
from multires_edge.models.threads import one_thread
from multires_edge.runtime.bundle import Bundle

Example = torch.Tensor | Sequence[torch.Tensor]


@dataclass(frozen=True)
class ModuleResult:
    """The written bundle and its proof. ``seconds`` is the duration of the export."""

    path: Path
    manifest: Manifest
    proof: ModuleProof
    seconds: float

    @property
    def passed(self) -> bool:
        return self.proof.passed


class ModuleParityError(ModuleError):
    """A graph does not compute what the module computes. The bundle is written, and says that it failed."""

    def __init__(self, result: ModuleResult) -> None:
        super().__init__(failures(result.path, result.proof.checks))
        self.result = result


def export_module(
    net: nn.Module,
    example: Example,
    output: str | Path,
    *,
    target: str | Sequence[str] | None = None,
    force: bool = False,
    source: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> ModuleResult:
    """Export a module of your own to a bundle folder, and prove it against the module.

    ``net`` is in eval mode and maps its inputs to one tensor or several. ``example`` is one input or a tuple
    of all: float32 (batch, channels, time), or tokens (batch, time) int64; only its shapes, spread and tokens
    count. Time is the last axis of every input. ``source`` is the file of the weights, named in the manifest;
    ``target`` and ``force`` are those of :func:`export_bundle`.
    Raises ModuleError for a module that is not causal or has an operator without a rule (nothing is written),
    and ModuleParityError when a check fails (the bundle is written, and must not be used).

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
    final = output_folder(Path(output), output)
    check_output(final, force=force)
    result = _export(net, given, final, target, force, source, progress)
    if not result.passed:
        raise ModuleParityError(result)
    return result


@one_thread()
def _export(
    net: nn.Module,
    example: tuple[torch.Tensor, ...],
    final: Path,
    target: str | Sequence[str] | None,
    force: bool,
    source: Path | None,
    progress: Callable[[str], None],
) -> ModuleResult:
    started = time.perf_counter()
    targets = targets_named(target)
    _check_example(example)
    progress("tracing the module")
    reference = in_float64(net, example)
    plan = make_plan(trace(reference, example, KNOWN))
    config = module_config(net, plan)
    first, *further = (form.form_name for form in forms_of(targets))
    manifest = Manifest(
        source=_source(net, source),
        network=config,
        target=targets[0].name,
        pool=None,
        graphs={},
        form=first,
        targets={each.name: tuple(form.form_name for form in each.forms) for each in targets},
        forms={form: {} for form in further},
        tools=tools_used(),
    )
    progress("building the graphs")
    with atomic_folder(final, force=force) as folder:
        statistics: dict[str, GraphStatistics] = {}
        for form, graphs in manifest.by_form.items():
            infix = "" if form == manifest.form else f".{form}"
            whole = StepGraph(build_whole_graph(plan.program, FORMS[form]), ())
            for kind, graph in (
                ("full", whole),
                ("step", build_traced_step_graph(plan.program, FORMS[form])),
            ):
                name = f"{kind}{infix}.onnx"
                onnx.helper.set_model_props(graph.model, _metadata(manifest))
                graphs.setdefault(kind, {})["fp32"] = write_graph(folder, name, graph)
                statistics[name] = GraphStatistics.of(graph.model, (folder / name).stat().st_size)
        proof, golden = prove_module(reference, plan, Bundle(folder, manifest), example, progress)
        progress("writing the report")
        (folder / GOLDEN_FILE).write_bytes(golden.to_bytes())
        write_json(folder / PARITY_FILE, plain(proof.parity()))
        write_report(folder / "report.html", manifest, proof, statistics)
        names = [GOLDEN_FILE, PARITY_FILE, "report.html"]
        # The manifest is the last file, because it has the digests of all others.
        manifest.files.update({name: sha256_of(folder / name) for name in names})
        write_json(folder / FILE_NAME, manifest.to_json())
    return ModuleResult(final, manifest, proof, time.perf_counter() - started)


def module_config(net: nn.Module, plan: Plan) -> ModuleConfig:
    """What the manifest says of a traced module. Raises ModuleError for names that it cannot have."""
    program = plan.program
    inputs = tuple(_tensor(name, program.layouts[name]) for name in program.inputs)
    outputs = tuple(_tensor(name, program.layouts[value]) for name, value in program.outputs.items())
    states = {
        "position",
        *(ring.name for ring in program.rings),
        *(str(pool.state) for pool in program.pools),
    }
    names = [tensor.name for tensor in (*inputs, *outputs)]
    taken = states | {f"next_{state}" for state in states}
    if wrong := [name for i, name in enumerate(names) if name in names[:i] or name in taken]:
        raise ModuleError(f"the name {wrong[0]} is used twice; rename that input or output of the module")
    kind = type(net)
    return ModuleConfig(
        printable(f"{kind.__module__}.{kind.__qualname__}"), inputs, outputs, plan.tokens, program.reach + 1
    )


def _tensor(name: str, layout: Layout) -> TensorSpec:
    return TensorSpec(name, onnx_type(layout.dtype), layout.shape)


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


def _source(net: nn.Module, source: Path | None) -> Source:
    """The file of the weights, or else the module with a digest of its parameters and buffers."""
    if source is not None:
        return Source(printable(source.name), sha256_of(source))
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return Source(printable(f"{type(net).__module__}.{type(net).__qualname__}"), digest.hexdigest())


def _metadata(manifest: Manifest) -> dict[str, str]:
    assert isinstance(manifest.network, ModuleConfig)
    return {
        "producer": f"multires-edge {manifest.tools['multires-edge']}",
        "source_sha256": manifest.source.sha256,
        "module": manifest.network.module,
        "precision": "fp32",
    }
