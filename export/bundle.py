"""Export a checkpoint to a bundle: read it, build the graphs, prove them, write everything or nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from multires_edge.base.errors import ConfigError, MultiresError
from multires_edge.base.files import sha256_of
from multires_edge.export.bundle_folder import atomic_folder
from multires_edge.export.compact import compact
from multires_edge.export.folding import FoldedNetwork, fold
from multires_edge.export.graphs.full import build_full_graph
from multires_edge.export.graphs.step import StepGraph, build_step_graph
from multires_edge.export.graphs.taps import build_taps_graph
from multires_edge.export.native_weights import file_name, native_weights, runs_natively
from multires_edge.export.options import ExportOptions, output_folder
from multires_edge.export.parity import Proof, noise, prove
from multires_edge.export.precision.fp16 import plan_fp16
from multires_edge.export.precision.queues import Queues
from multires_edge.export.precision.types import TypePlan
from multires_edge.export.quantization import Quantization, plan_int8
from multires_edge.export.report import write_report
from multires_edge.export.statistics import GraphStatistics
from multires_edge.export.target_selection import forms_of, targets_named
from multires_edge.format.card import Card, read_card
from multires_edge.format.config import ModelConfig
from multires_edge.format.fields import plain, printable
from multires_edge.format.golden import GOLDEN_FILE
from multires_edge.format.manifest import CALIBRATION_FILE, FILE_NAME, Manifest
from multires_edge.format.parity import PARITY_FILE
from multires_edge.format.pooling import Pooling, parse_pooling
from multires_edge.format.specs import FileSpec, Graphs, GraphSpec, Source, TensorSpec
from multires_edge.format.targets import GraphForm, Target
from multires_edge.models.checkpoint import read_checkpoint
from multires_edge.models.inference import Overrides, infer_config
from multires_edge.models.loading import build_network
from multires_edge.models.network import MultiresNet
from multires_edge.models.threads import one_thread
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.evaluation.dataset import Dataset
from multires_edge.runtime.evaluation.recordings import load_data

# ONNX and its runtimes allow 2 GiB per tensor, and a queue is one tensor.
_MAX_QUEUE_BYTES = (1 << 31) - 1
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
        failed = [check.line() for check in result.proof.checks if not check.passed]
        super().__init__(f"{result.path}: parity failed\n" + "\n".join(failed))
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
    started = time.perf_counter()
    checkpoint, options = Path(checkpoint), replace(options or ExportOptions(), **changes)
    final = output_folder(checkpoint, output)
    options.check(checkpoint, final, force=force)
    manifest, proof, quantization = _export(checkpoint, final, options, force, progress)
    result = ExportResult(final, manifest, proof, quantization, time.perf_counter() - started)
    if not result.passed:
        raise ParityError(result)
    return result


@one_thread()
def _export(
    checkpoint: Path, final: Path, options: ExportOptions, force: bool, progress: Callable[[str], None]
) -> tuple[Manifest, Proof, Quantization | None]:
    pooling = parse_pooling(options.pool)
    wanted_precisions = options.written_precisions()
    targets = targets_named(options.target)
    forms = forms_of(targets)
    progress("reading the checkpoint")
    read = read_checkpoint(checkpoint)
    config = infer_config(read, options.overrides or Overrides())
    net = build_network(read, config)
    lengths = _takes_lengths(options.lengths, config)
    _check_state_sizes(config, pooling)
    read_the_card = None if options.card is None else read_card(options.card, config)
    dataset = None if options.verify_data is None else load_data(options.verify_data, config, read_the_card)
    folded = fold(net)
    plan = plan_int8(options.int8, net, folded, read_the_card, targets[0].form, progress)
    quantization = None if plan is None else Quantization.of(plan, folded)

    progress("building the graphs")
    metadata = _metadata(config, read.sha256, pooling)

    with atomic_folder(final, force=force) as folder:
        graphs: dict[str, Graphs] = {form.form_name: {} for form in forms}
        native: dict[str, FileSpec] = {}
        statistics: dict[str, GraphStatistics] = {}
        for precision in wanted_precisions:
            network = plan.apply(folded) if precision == "int8" and plan is not None else folded
            types = _types(precision, net, dataset)
            for form in forms:
                takers = [target for target in targets if form in target.forms]
                described = metadata | {"precision": precision, "target": ", ".join(t.name for t in takers)}
                taps = any(target.taps_graph for target in takers)
                # step.onnx, step.fp16.onnx; step.fp16.opset17.onnx if the form is not the first target's
                infix = "" if precision == "fp32" else f".{precision}"
                infix += "" if form == forms[0] else f".{form.form_name}"
                built = _build_graphs(network, form, pooling, lengths, described, types, taps=taps)
                for kind, graph in built:
                    name = f"{kind}{infix}.onnx"
                    if precision != "fp32":
                        compact(graph.model)
                    graphs[form.form_name].setdefault(kind, {})[precision] = _write_graph(folder, name, graph)
                    statistics[name] = GraphStatistics.of(graph.model)
            native |= _write_native(folder, network, pooling, read_the_card, precision, types)
            del network
        del folded
        manifest = _manifest(
            read.path, read.sha256, config, graphs, native, targets, pooling, read_the_card, quantization
        )
        names = [GOLDEN_FILE, PARITY_FILE, "report.html"]
        if quantization is not None:
            names.append(CALIBRATION_FILE)
            quantization.table.write(folder / CALIBRATION_FILE)  # the proof reads it
        proof, golden = prove(net, Bundle(folder, manifest), dataset=dataset, progress=progress)
        progress("writing the report")
        golden.save(folder / GOLDEN_FILE)
        quantized = None if quantization is None else {"int8": quantization.to_json()}
        _write_json(folder / PARITY_FILE, plain(proof.parity(quantized)))
        write_report(folder / "report.html", manifest, proof, statistics, folder, quantization)
        # The manifest is the last file, because it has the digests of all others.
        manifest.files.update({name: sha256_of(folder / name) for name in names})
        _write_json(folder / FILE_NAME, manifest.to_json())
    return manifest, proof, quantization


def _takes_lengths(asked: bool | None, config: ModelConfig) -> bool:
    if asked and config.task == "autoregressive":
        raise ConfigError("--lengths is for classification; this network is autoregressive")
    if asked is None:
        return config.encoder == "token" and config.task == "classification"
    return asked


def _types(precision: str, net: MultiresNet, dataset: Dataset | None) -> TypePlan:
    """The types of the graphs of a precision. Typical inputs for fp16 are noise, and the data if given."""
    config = net.config
    if precision != "fp16":
        return TypePlan.float32(config.n_layers)
    # Low-pass filters have their largest gain on constant input, as of a torn electrode.
    steady = np.repeat(noise(config, 4, 1), min(config.layer_receptive_field, _STEADY_STEPS), axis=-1)
    typical = [noise(config, 4, 1000), *([steady] if config.encoder == "token" else [steady, -steady])]
    if dataset is not None:
        typical += [dataset.inputs[i : i + 16] for i in range(0, min(len(dataset.inputs), 64), 16)]
    return plan_fp16(net, (torch.from_numpy(np.ascontiguousarray(x)) for x in typical))


def _write_graph(folder: Path, name: str, graph: StepGraph) -> GraphSpec:
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


def _build_graphs(
    network: FoldedNetwork,
    form: GraphForm,
    pooling: Pooling,
    lengths: bool,
    metadata: dict[str, str],
    types: TypePlan,
    *,
    taps: bool,
) -> Iterator[tuple[str, StepGraph]]:
    """Build the graphs of a form, one at a time, with their kind. The full graph has no states."""
    full = build_full_graph(network, form, lengths=lengths, metadata=metadata, types=types, pooling=pooling)
    yield "full", StepGraph(full, ())
    del full
    yield "step", build_step_graph(network, form, pooling, metadata, types)
    if taps:
        yield "taps", build_taps_graph(network, form, pooling, metadata, types)


def _write_native(
    folder: Path,
    network: FoldedNetwork,
    pooling: Pooling,
    card: Card | None,
    precision: str,
    types: TypePlan,
) -> dict[str, FileSpec]:
    """The native engine's weights of a precision; none where the engine lacks a part of the network."""
    if not runs_natively(network, pooling):
        return {}
    path = folder / file_name(precision)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(native_weights(network, pooling, card, precision, Queues.of(network, types)))
    return {precision: FileSpec(file_name(precision), sha256_of(path))}


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return TensorSpec(value.name, str(dtype), shape)


def _manifest(
    source: Path,
    sha256: str,
    config: ModelConfig,
    graphs: dict[str, Graphs],
    native: dict[str, FileSpec],
    targets: Sequence[Target],
    pooling: Pooling,
    card: Card | None,
    quantization: Quantization | None,
) -> Manifest:
    first, *further = graphs
    return Manifest(
        source=Source(printable(source.name), sha256),
        model=config,
        graphs=graphs[first],
        tools=_tools(),
        target=targets[0].name,
        pool=str(pooling) if config.task == "classification" else None,
        preprocessing=card.preprocessing if card else None,
        labels=card.labels if card else None,
        about=card.about if card else None,
        native=native,
        quantization={} if quantization is None else {"int8": quantization.spec},
        form=first,
        targets={target.name: tuple(form.form_name for form in target.forms) for target in targets},
        forms={name: graphs[name] for name in further},
    )


def _metadata(config: ModelConfig, sha256: str, pooling: Pooling) -> dict[str, str]:
    metadata = {
        "producer": f"multires-edge {_tools()['multires-edge']}",
        "source_sha256": sha256,
        **{key: str(value) for key, value in vars(config).items() if value is not None},
    }
    if config.task == "classification":
        metadata["pool"] = str(pooling)
    return metadata


def _tools() -> dict[str, str]:
    tools = {}
    for name in ("multires-edge", "torch", "onnx", "onnxruntime", "numpy"):
        try:
            tools[name] = version(name)
        except PackageNotFoundError:
            tools[name] = "unknown"
    return tools


def _check_state_sizes(config: ModelConfig, pooling: Pooling) -> None:
    item = np.dtype(np.float32).itemsize
    states = pooling.states(config.d_model) if config.task == "classification" else ()
    for state in states:
        if state.row_bytes > _MAX_QUEUE_BYTES:
            raise ConfigError(
                f"--pool {pooling} keeps {state.row_bytes:,} bytes for one stream, and a tensor holds at "
                f"most {_MAX_QUEUE_BYTES:,}"
            )
    largest = (max(config.history()) + 1) * config.n_layers * config.d_model * item
    if largest > _MAX_QUEUE_BYTES:
        raise ConfigError(
            f"depth {config.depth} with kernel size {config.kernel_size} makes a queue of "
            f"{largest:,} bytes for one stream, and a tensor holds at most {_MAX_QUEUE_BYTES:,}"
        )


def _write_json(path: Path, entry: dict[str, Any]) -> None:
    path.write_text(json.dumps(entry, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
