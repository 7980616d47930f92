"""Write the bundle of a traced module: build its graphs, and prove them against the module."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import nn

from multires_edge.base.errors import ModuleError
from multires_edge.base.files import sha256_of
from multires_edge.base.names import printable
from multires_edge.export.bundle import tools_used, write_graph, write_json
from multires_edge.export.bundle_folder import atomic_folder
from multires_edge.export.graphs.step import StepGraph
from multires_edge.export.report import GraphStatistics, write_report
from multires_edge.export.target_selection import forms_of, targets_named
from multires_edge.export.trace.filters import described
from multires_edge.export.trace.graphs import build_traced_step_graph, build_whole_graph, onnx_type
from multires_edge.export.trace.planning import Plan
from multires_edge.export.trace.program import Layout, Recurrence
from multires_edge.export.trace.proof import ModuleProof, prove_module
from multires_edge.format.comparison import failures
from multires_edge.format.fields import plain
from multires_edge.format.golden import GOLDEN_FILE
from multires_edge.format.manifest import FILE_NAME, Manifest
from multires_edge.format.module import ModuleConfig
from multires_edge.format.parity import PARITY_FILE
from multires_edge.format.specs import Source, TensorSpec
from multires_edge.format.targets import FORMS
from multires_edge.runtime.bundle import Bundle


@dataclass(frozen=True)
class ModuleResult:
    """The written bundle and its proof. ``seconds`` is the duration of the export.

    With fewer steps than ``least_steps`` the module may compute something else than was traced.
    """

    path: Path
    manifest: Manifest
    proof: ModuleProof
    seconds: float
    least_steps: int

    @property
    def passed(self) -> bool:
        return self.proof.passed


class ModuleParityError(ModuleError):
    """A graph does not compute what the module computes. The bundle is written, and says that it failed."""

    def __init__(self, result: ModuleResult) -> None:
        message = failures(result.path, result.proof.checks)
        if result.least_steps > 1:
            message += (
                f"\nThe trace holds from {result.least_steps} steps on: the module decides something by the "
                "number of steps, and a stream begins with one"
            )
        super().__init__(message)
        self.result = result


def export_traced(
    net: nn.Module,
    reference: nn.Module,
    example: tuple[torch.Tensor, ...],
    plan: Plan,
    unmatched: str,
    final: Path,
    *,
    target: str | Sequence[str] | None,
    force: bool,
    source: Source,
    started: float,
    progress: Callable[[str], None],
) -> ModuleResult:
    """Write and prove the bundle of a module that is no MultiresNet, for the reason ``unmatched``.

    ``reference`` is the module in float64, ``started`` the time at which the export began.
    """
    targets = targets_named(target)
    config = module_config(net, plan, unmatched)
    first, *further = (form.form_name for form in forms_of(targets))
    manifest = Manifest(
        source=source,
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
                ("step", build_traced_step_graph(plan.step, FORMS[form])),
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
    return ModuleResult(final, manifest, proof, time.perf_counter() - started, plan.least_steps)


def module_config(net: nn.Module, plan: Plan, unmatched: str) -> ModuleConfig:
    """What the manifest says of a traced module. Raises ModuleError for names that it cannot have."""
    program = plan.program
    inputs = tuple(_tensor(name, program.layouts[name]) for name in program.inputs)
    outputs = tuple(_tensor(name, program.layouts[value]) for name, value in program.outputs.items())
    states = {
        "position",
        *(ring.name for ring in plan.step.rings),
        *(str(pool.state) for pool in program.pools),
        *(state for each in program.instructions if isinstance(each, Recurrence) for state in each.states),
    }
    names = [tensor.name for tensor in (*inputs, *outputs)]
    taken = states | {f"next_{state}" for state in states}
    if wrong := [name for i, name in enumerate(names) if name in names[:i] or name in taken]:
        raise ModuleError(f"the name {wrong[0]} is used twice; rename that input or output of the module")
    return ModuleConfig(
        class_of(net),
        inputs,
        outputs,
        plan.tokens,
        program.reach + 1,
        printable(unmatched),
        described(plan.step),
    )


def class_of(net: nn.Module) -> str:
    """The name of a module's class."""
    return printable(f"{type(net).__module__}.{type(net).__qualname__}")


def _tensor(name: str, layout: Layout) -> TensorSpec:
    return TensorSpec(name, onnx_type(layout.dtype), layout.shape)


def _metadata(manifest: Manifest) -> dict[str, str]:
    assert isinstance(manifest.network, ModuleConfig)
    return {
        "producer": f"multires-edge {manifest.tools['multires-edge']}",
        "source_sha256": manifest.source.sha256,
        "module": manifest.network.module,
        "precision": "fp32",
    }
