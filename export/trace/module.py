"""Write the bundle of a traced module: build its graphs, and prove them against the module."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import onnx
import torch
from torch import nn

from multires_edge.base.errors import ModuleError
from multires_edge.base.files import sha256_of
from multires_edge.base.names import printable
from multires_edge.export.bundle import tools_used, write_graph, write_json
from multires_edge.export.bundle_folder import atomic_folder
from multires_edge.export.compact import compact
from multires_edge.export.graphs.step import StepGraph
from multires_edge.export.graphs.taps import RingsOutside
from multires_edge.export.model_card import write_pages
from multires_edge.export.options import ExportOptions
from multires_edge.export.quantization import Quantization
from multires_edge.export.report import GraphStatistics
from multires_edge.export.target_selection import forms_of, targets_named
from multires_edge.export.trace.factors import write_factors
from multires_edge.export.trace.filters import described, with_banks
from multires_edge.export.trace.float16 import plan_float16
from multires_edge.export.trace.noise import Noise, typical_inputs
from multires_edge.export.trace.planning import Plan
from multires_edge.export.trace.precision import EXACT, Precision
from multires_edge.export.trace.products import in_int8, input_ranges, products_of
from multires_edge.export.trace.program import Layout, Program, Recurrence
from multires_edge.export.trace.proof import ModuleProof, prove_module
from multires_edge.export.trace.quantization import plan_int8
from multires_edge.export.trace.step_graph import build_traced_step_graph
from multires_edge.export.trace.whole_graph import build_whole_graph
from multires_edge.export.trace.writer import onnx_type
from multires_edge.export.types import FLOAT32
from multires_edge.format.comparison import failures
from multires_edge.format.fields import plain
from multires_edge.format.figures import read_figures
from multires_edge.format.golden import GOLDEN_FILE
from multires_edge.format.manifest import CALIBRATION_FILE, FILE_NAME, Manifest
from multires_edge.format.module import ModuleConfig
from multires_edge.format.parity import PARITY_FILE
from multires_edge.format.specs import Source, TensorSpec
from multires_edge.format.targets import FORMS, TARGETS, GraphForm
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.evaluation.recordings import load_data


@dataclass(frozen=True)
class ModuleResult:
    """The written bundle and its proof. ``seconds`` is the duration of the export.

    With fewer steps than ``least_steps`` the module may compute something else than was traced.
    """

    path: Path
    manifest: Manifest
    proof: ModuleProof
    quantization: Quantization | None
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


@dataclass(frozen=True)
class _Version:
    """A network in one precision: its programs, and what they compute in which type."""

    whole: Program
    step: Program
    precision: Precision


def export_traced(
    net: nn.Module,
    reference: nn.Module,
    example: tuple[torch.Tensor, ...],
    plan: Plan,
    unmatched: str,
    final: Path,
    options: ExportOptions,
    *,
    force: bool,
    source: Source,
    started: float,
    progress: Callable[[str], None],
) -> ModuleResult:
    """Write and prove the bundle of a module that is no MultiresNet, for the reason ``unmatched``.

    ``reference`` is the module in float64, ``started`` the time at which the export began.
    """
    targets = targets_named(options.target)
    config = module_config(net, plan, unmatched)
    dataset = None if options.verify_data is None else load_data(options.verify_data, config)
    form = targets[0].form
    quantization = plan_int8(options.int8, net, plan.program, config, form, progress)
    products = products_of(plan.program)
    ranges = {}
    if quantization is not None:
        ranges = input_ranges(plan.program, products, quantization.table, quantization.names)
    noise = Noise(config, dict(zip(plan.program.inputs, example, strict=True)), ranges)
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
        quantization={} if quantization is None else {"int8": quantization.spec},
        tools=tools_used(),
    )
    figures = None if options.evaluation is None else read_figures(options.evaluation, manifest)
    progress("building the graphs")
    with atomic_folder(final, force=force) as folder:
        statistics: dict[str, GraphStatistics] = {}
        for name in options.written_precisions():
            version = _Version(plan.program, plan.step, EXACT)
            if name == "fp16":
                inputs = typical_inputs(noise, dataset)
                version = replace(version, precision=plan_float16(plan.program, plan.step, form, inputs))
            elif quantization is not None and name == "int8":
                rounded, precision = in_int8(plan.program, products, quantization.table, quantization.names)
                version = _Version(rounded, with_banks(rounded), precision)
            statistics |= _write_precision(folder, manifest, version, name)
        names = [GOLDEN_FILE, PARITY_FILE]
        if quantization is not None:
            names.append(CALIBRATION_FILE)
            quantization.table.write(folder / CALIBRATION_FILE)
        proof, golden = prove_module(reference, plan, Bundle(folder, manifest), noise, dataset, progress)
        progress("writing the report")
        (folder / GOLDEN_FILE).write_bytes(golden.to_bytes())
        quantized = None if quantization is None else {"int8": quantization.to_json()}
        write_json(folder / PARITY_FILE, plain(proof.parity(quantized)))
        names += write_pages(folder, manifest, proof, statistics, quantization, figures)
        # The manifest is the last file, because it has the digests of all others.
        manifest.files.update({name: sha256_of(folder / name) for name in names})
        write_json(folder / FILE_NAME, manifest.to_json())
    seconds = time.perf_counter() - started
    return ModuleResult(final, manifest, proof, quantization, seconds, plan.least_steps)


def _write_precision(
    folder: Path, manifest: Manifest, version: _Version, precision: str
) -> dict[str, GraphStatistics]:
    """Write the graphs of a precision in every form, and enter them in the manifest."""
    statistics = {}
    for form, graphs in manifest.by_form.items():
        takers = [TARGETS[name] for name, forms in manifest.targets.items() if form in forms]
        engines = any(target.package for target in takers)
        infix = "" if precision == "fp32" else f".{precision}"
        infix += "" if form == manifest.form else f".{form}"
        for kind, graph in _graphs(version, FORMS[form], engines=engines):
            name = f"{kind}{infix}.onnx"
            onnx.helper.set_model_props(graph.model, _metadata(manifest, precision))
            if precision != "fp32":
                compact(graph.model)
            spec = write_graph(folder, name, graph)
            if kind == "sums":
                spec = replace(
                    spec, factors=write_factors(folder, precision, version.step.banks, graph.rings)
                )
            graphs.setdefault(kind, {})[precision] = spec
            statistics[name] = GraphStatistics.of(graph.model, (folder / name).stat().st_size)
    return statistics


def _graphs(version: _Version, form: GraphForm, *, engines: bool) -> Iterator[tuple[str, StepGraph]]:
    """The graphs of a form, with their kind; with ``engines`` for TensorRT, with the taps graph.

    The native engine has banks in float32. With others there is no sums graph.
    """
    yield "full", StepGraph(build_whole_graph(version.whole, form, version.precision), ())
    step = partial(build_traced_step_graph, version.step, form, version.precision, engines=engines)
    yield "step", step()
    if engines and version.step.rings:
        yield "taps", step(RingsOutside)
    if version.step.banks and all(version.precision.type_of(b.name) == FLOAT32 for b in version.step.banks):
        yield "sums", build_traced_step_graph(version.step, form, version.precision, sums=True)


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
    for of_rings in ("taps", "pushes", "sums", "sources"):  # of the taps and the sums graph
        taken |= {ring.name.replace("queue", of_rings) for ring in plan.step.rings}
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


def _metadata(manifest: Manifest, precision: str) -> dict[str, str]:
    assert isinstance(manifest.network, ModuleConfig)
    return {
        "producer": f"multires-edge {manifest.tools['multires-edge']}",
        "source_sha256": manifest.source.sha256,
        "module": manifest.network.module,
        "precision": precision,
    }
