"""Export a checkpoint to a bundle: read it, build the graphs, prove them, write everything or nothing."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch

from multires_edge.base.errors import ConfigError, MultiresError
from multires_edge.base.files import sha256_of
from multires_edge.base.installation import versions_of
from multires_edge.base.names import printable
from multires_edge.export.bundle_folder import atomic_folder
from multires_edge.export.compact import compact
from multires_edge.export.folding import FoldedNetwork, fold
from multires_edge.export.graphs.full import build_full_graph
from multires_edge.export.graphs.step import StepGraph, build_step_graph
from multires_edge.export.graphs.taps import RingsOutside
from multires_edge.export.model_card import write_pages
from multires_edge.export.native_weights import file_name, native_weights, runs_natively
from multires_edge.export.options import ExportOptions, output_folder
from multires_edge.export.own_module import OwnModule
from multires_edge.export.parity import noise, prove
from multires_edge.export.precision.fp16 import plan_fp16
from multires_edge.export.proof import Proof
from multires_edge.export.quantization import Quantization, plan_int8
from multires_edge.export.report import GraphStatistics
from multires_edge.export.target_selection import forms_of, targets_named
from multires_edge.export.trial import find_network, first_guess
from multires_edge.format.card import Card, read_card
from multires_edge.format.comparison import failures
from multires_edge.format.config import ModelConfig
from multires_edge.format.fields import plain
from multires_edge.format.figures import read_figures
from multires_edge.format.golden import GOLDEN_FILE
from multires_edge.format.manifest import CALIBRATION_FILE, FILE_NAME, Manifest
from multires_edge.format.parity import PARITY_FILE
from multires_edge.format.pooling import Pooling, pooling_named
from multires_edge.format.reading import step_states
from multires_edge.format.specs import FileSpec, GraphSpec, Source, TensorSpec
from multires_edge.format.targets import FORMS, TARGETS, GraphForm, Target
from multires_edge.models.checkpoint import Checkpoint, read_checkpoint
from multires_edge.models.inference import Inferred, Overrides, infer_config
from multires_edge.models.loading import build_network
from multires_edge.models.threads import one_thread
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.evaluation.dataset import DataHints, Dataset, hints_of
from multires_edge.runtime.evaluation.recordings import load_data

if TYPE_CHECKING:
    from multires_edge.models.network import MultiresNet

# ONNX and its runtimes allow 2 GiB per tensor, and a state is one tensor.
_MAX_STATE_BYTES = (1 << 31) - 1
_STEADY_STEPS = 20_000


@dataclass(frozen=True)
class ExportResult:
    """The written bundle and its proof. ``seconds`` is the duration of the export."""

    path: Path
    manifest: Manifest
    proof: Proof
    quantization: Quantization | None
    seconds: float

    @property
    def passed(self) -> bool:
        return self.proof.passed


class ParityError(MultiresError):
    """A graph does not compute what the network computes. The bundle is written, and says that it failed."""

    def __init__(self, result: ExportResult) -> None:
        super().__init__(failures(result.path, result.proof.checks))
        self.result = result


def export_bundle(
    checkpoint: str | Path,
    output: str | Path | None = None,
    options: ExportOptions | None = None,
    *,
    force: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    **changes: Any,
) -> ExportResult:
    """Export a checkpoint to a bundle folder and prove it.

    ``output`` None is the checkpoint's path with the suffix ``.bundle``; ``force`` replaces an existing
    bundle. ``changes`` are fields of :class:`ExportOptions`, such as ``precisions`` and ``pool``; they take
    precedence over ``options``. ``progress`` is called with a few words for each part of the work.
    Raises MultiresError for unusable input (nothing is written), and ParityError when a check fails (the
    bundle is written, and must not be used).

    >>> from multires_edge.export import export_bundle
    >>> result = export_bundle("ckpt.pth", "out/ecg.bundle", card="card.json", pool="window:1000")
    >>> result.passed, str(result.manifest.pooling)
    (True, 'window:1000')
    """
    checkpoint, options = Path(checkpoint), replace(options or ExportOptions(), **changes)
    final = output_folder(checkpoint, output)
    options.check(checkpoint, final, force=force)
    result = _export(checkpoint, final, options, force, progress)
    if not result.passed:
        raise ParityError(result)
    return result


@one_thread()
def _export(
    checkpoint: Path, final: Path, options: ExportOptions, force: bool, progress: Callable[[str], None]
) -> ExportResult:
    started = time.perf_counter()
    progress("reading the checkpoint")
    overrides = options.overrides or Overrides()
    if options.pool is not None:
        overrides = replace(overrides, pool=options.pool)
    read, inferred, card, dataset = _read(checkpoint, overrides, options, progress)
    name = printable(read.path.name or read.path.resolve().name)
    source = Source(name, read.sha256, overrides.weights, inferred.assumed)
    given = Given(build_network(read, inferred.config), source, card, dataset, overrides.pool)
    return export_network(given, final, options, started=started, force=force, progress=progress)


@dataclass(frozen=True)
class Given:
    """A network to export, and what is known of it.

    ``pool`` is how it pools, as an option says it. ``module`` is the user's module that the network was found
    in; its weights may be in float64.
    """

    net: MultiresNet
    source: Source
    card: Card | None
    dataset: Dataset | None
    pool: str | None
    module: OwnModule | None = None


def export_network(
    given: Given,
    final: Path,
    options: ExportOptions,
    *,
    started: float,
    force: bool,
    progress: Callable[[str], None],
) -> ExportResult:
    """Write and prove the bundle of a network. ``started`` is the time at which the export began."""
    net, config, card = given.net, given.net.config, given.card
    targets = targets_named(options.target)
    first, *further = (form.form_name for form in forms_of(targets))
    pooling = config.pooled_by(None if given.pool is None else pooling_named(given.pool))
    lengths = _takes_lengths(options.lengths, config)
    _check_state_sizes(config, pooling)
    folded = fold(net)
    single = net  # calibration runs it in float32
    if next(net.parameters()).dtype != torch.float32:
        single = copy.deepcopy(net).float()
    quantization = plan_int8(options.int8, single, folded, card, targets[0].form, progress)
    manifest = Manifest(
        source=given.source,
        network=config,
        target=targets[0].name,
        pool=None if pooling is None else str(pooling),
        graphs={},
        form=first,
        targets={target.name: tuple(form.form_name for form in target.forms) for target in targets},
        forms={form: {} for form in further},
        quantization={} if quantization is None else {"int8": quantization.spec},
        preprocessing=card.preprocessing if card else None,
        labels=card.labels if card else None,
        about=card.about if card else None,
        tools=tools_used(),
    )
    figures = None if options.evaluation is None else read_figures(options.evaluation, manifest)
    progress("building the graphs")
    with atomic_folder(final, force=force) as folder:
        statistics: dict[str, GraphStatistics] = {}
        for precision in options.written_precisions():
            network = folded
            if precision == "fp16":
                network = replace(folded, types=plan_fp16(single, _typical_inputs(config, given.dataset)))
            elif precision == "int8" and quantization is not None:
                network = quantization.apply(folded)
            statistics |= _write_precision(folder, manifest, network, precision, lengths)
            del network
        del folded
        names = [GOLDEN_FILE, PARITY_FILE]
        if quantization is not None:
            names.append(CALIBRATION_FILE)
            quantization.table.write(folder / CALIBRATION_FILE)  # the proof reads it
        bundle = Bundle(folder, manifest)
        proof, golden = prove(net, bundle, dataset=given.dataset, module=given.module, progress=progress)
        progress("writing the report")
        golden.save(folder / GOLDEN_FILE)
        quantized = None if quantization is None else {"int8": quantization.to_json()}
        write_json(folder / PARITY_FILE, plain(proof.parity(quantized)))
        names += write_pages(folder, manifest, proof, statistics, quantization, figures)
        # The manifest is the last file, because it has the digests of all others.
        manifest.files.update({name: sha256_of(folder / name) for name in names})
        write_json(folder / FILE_NAME, manifest.to_json())
    return ExportResult(final, manifest, proof, quantization, time.perf_counter() - started)


def _read(
    path: Path, overrides: Overrides, options: ExportOptions, progress: Callable[[str], None]
) -> tuple[Checkpoint, Inferred, Card | None, Dataset | None]:
    """The checkpoint, its configuration, the card, and the data to compare on."""
    data = options.verify_data
    hints = DataHints() if data is None else hints_of(data)
    checkpoint = read_checkpoint(path, overrides.weights, overrides.encoder or hints.encoder)
    by_outputs = hints.per_step is not None and checkpoint.config is None
    if by_outputs:
        config = first_guess(checkpoint, overrides, per_step=bool(hints.per_step))
    else:
        inferred = infer_config(checkpoint, overrides)
        config = inferred.config
    card = None if options.card is None else read_card(options.card, config)
    dataset = None if data is None else load_data(data, config, card)
    if by_outputs and dataset is not None:
        inferred = find_network(checkpoint, overrides, dataset, progress)
    return checkpoint, inferred, card, dataset


def _write_precision(
    folder: Path, manifest: Manifest, network: FoldedNetwork, precision: str, lengths: bool
) -> dict[str, GraphStatistics]:
    """Write the graphs of a precision in every form, and its native weights, and enter them in the manifest.

    Where the native engine lacks a part of the network there are no native weights. Returns the statistics
    of the graphs by file name.
    """
    statistics = {}
    pooling = manifest.pooling
    for form, graphs in manifest.by_form.items():
        takers = [TARGETS[name] for name, forms in manifest.targets.items() if form in forms]
        engines = any(target.package for target in takers)
        # step.onnx, step.fp16.onnx; step.fp16.opset17.onnx if the form is not the first target's
        infix = "" if precision == "fp32" else f".{precision}"
        infix += "" if form == manifest.form else f".{form}"
        for kind, graph in build_graphs(network, FORMS[form], pooling, lengths=lengths, engines=engines):
            name = f"{kind}{infix}.onnx"
            onnx.helper.set_model_props(graph.model, _metadata(manifest, precision, takers))
            if precision != "fp32":
                compact(graph.model)
            graphs.setdefault(kind, {})[precision] = write_graph(folder, name, graph)
            statistics[name] = GraphStatistics.of(graph.model, (folder / name).stat().st_size)
    if runs_natively(network, pooling):
        file = folder / file_name(precision)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(native_weights(network, pooling, manifest.card, precision))
        manifest.native[precision] = FileSpec(file_name(precision), sha256_of(file))
    return statistics


def _takes_lengths(asked: bool | None, config: ModelConfig) -> bool:
    if asked and config.per_step:
        raise ConfigError("--lengths is for networks that pool; this network has an output at every step")
    if asked is None:
        return config.encoder == "token" and not config.per_step
    return asked


def _typical_inputs(config: ModelConfig, dataset: Dataset | None) -> Iterator[torch.Tensor]:
    """Typical inputs for fp16: noise, and the data if given."""
    # Low-pass filters have their largest gain on constant input, as of a torn electrode.
    steady = np.repeat(noise(config, 4, 1), min(config.layer_receptive_field, _STEADY_STEPS), axis=-1)
    typical = [noise(config, 4, 1000), *([steady] if config.encoder == "token" else [steady, -steady])]
    if dataset is not None:
        typical += [dataset.inputs[i : i + 16] for i in range(0, min(len(dataset.inputs), 64), 16)]
    return (torch.from_numpy(np.ascontiguousarray(x)) for x in typical)


def write_graph(folder: Path, name: str, graph: StepGraph) -> GraphSpec:
    """Write the file of a graph, and describe it for the manifest."""
    path, model = folder / name, graph.model
    path.write_bytes(model.SerializeToString(deterministic=True))
    fed_back = {name for state in graph.states for name in (state.input, state.output)}

    def specs(values: Sequence[onnx.ValueInfoProto]) -> tuple[TensorSpec, ...]:
        return tuple(_tensor_spec(value) for value in values if value.name not in fed_back)

    return GraphSpec(
        file=name,
        sha256=sha256_of(path),
        opset=model.opset_import[0].version,
        inputs=specs(model.graph.input),
        outputs=specs(model.graph.output),
        states=graph.states,
        banks=graph.rings,
    )


def build_graphs(
    network: FoldedNetwork, form: GraphForm, pooling: Pooling | None, *, lengths: bool, engines: bool
) -> Iterator[tuple[str, StepGraph]]:
    """Build the graphs of a form, one at a time, with their kind. The full graph has no states.

    With ``engines`` they are for TensorRT, with the taps graph.
    """
    yield "full", StepGraph(build_full_graph(network, form, pooling, lengths=lengths), ())
    yield "step", build_step_graph(network, form, pooling, engines=engines)
    if engines:
        yield "taps", build_step_graph(network, form, pooling, RingsOutside, engines=True)


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return TensorSpec(value.name, str(dtype), shape)


def _metadata(manifest: Manifest, precision: str, targets: Sequence[Target]) -> dict[str, str]:
    metadata = {
        "producer": f"multires-edge {manifest.tools['multires-edge']}",
        "source_sha256": manifest.source.sha256,
        **{key: str(value) for key, value in plain(manifest.model).items() if value is not None},
    }
    if manifest.pool is not None:
        metadata["pool"] = manifest.pool
    return metadata | {"precision": precision, "target": ", ".join(target.name for target in targets)}


def tools_used() -> dict[str, str]:
    """The versions of what an export is made with."""
    return versions_of("multires-edge", "torch", "onnx", "onnxruntime", "numpy")


def _check_state_sizes(config: ModelConfig, pooling: Pooling | None) -> None:
    for state in step_states(config, pooling, "float32"):
        if state.row_bytes > _MAX_STATE_BYTES:
            cause = f"--pool {pooling}"
            if state.scale is not None:
                cause = f"depth {config.depth} with kernel size {config.kernel_size}"
            raise ConfigError(
                f"{cause} keeps {state.row_bytes:,} bytes in one state of a stream, and a tensor holds at "
                f"most {_MAX_STATE_BYTES:,}"
            )


def write_json(path: Path, entry: dict[str, Any]) -> None:
    """Write an object as JSON for people and programs."""
    path.write_text(json.dumps(entry, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
