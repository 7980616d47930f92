"""``multires-export``, also ``multires-edge export``."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from multires_edge.base.errors import ConfigError, require_extra
from multires_edge.cli.command import Command
from multires_edge.cli.options import (
    FILE,
    OUTPUT_FOLDER,
    PART_LIST,
    PRECISION_LIST,
    TARGET_LIST,
    flag,
    json_option,
    method_option,
    option,
    pick,
    tree_options,
)
from multires_edge.cli.paths import CheckpointPath, FilePath
from multires_edge.cli.terminal import Progress, human_bytes, print_json, print_table
from multires_edge.format.config import ModelConfig

if TYPE_CHECKING:
    from multires_edge.export.bundle import ExportResult
    from multires_edge.export.quantization import Quantization
    from multires_edge.export.trace.module import ModuleResult
    from multires_edge.format.module import ModuleConfig

PARITY_FAILED = 1
# What a module costs that is no MultiresNet; docs/own-networks.md has the measurement.
COST = (
    "so it runs in ONNX Runtime and as TensorRT engines, its filters in the native engine, without the cuda "
    "backend and `multires-edge stream`; a step takes longer"
)


@click.command(cls=Command)
@click.argument("checkpoint", type=CheckpointPath("CHECKPOINT"))
@option(
    "-o --output",
    OUTPUT_FOLDER,
    "Bundle folder to write  [default: the checkpoint's path with suffix .bundle]",
)
@flag("--force", "Replace an existing bundle.")
@option("--card", FILE, "Card in JSON: preprocessing, labels, source.")
@option("--evaluation", FILE, "Figures that `multires-edge evaluate --json` wrote, for the model card.")
@option(
    "--target",
    TARGET_LIST,
    "Targets that the graphs must run on, separated by commas, such as cpu,jetpack6; see `multires-edge "
    "targets`  [default: the newest that the installed ONNX Runtime runs]",
)
@click.option(
    "--lengths/--no-lengths",
    default=None,
    help="Whether the full graph takes the length of each row  [default: only of token models]",
)
@option(
    "--precision precisions",
    PRECISION_LIST,
    "Precisions to write, separated by commas: fp32, fp16, int8.",
    default="fp32",
)
@option(
    "--calibration-data data",
    FilePath("PATH"),
    "Real data for the ranges of int8: an .npz, or a folder of recordings.",
)
@method_option("--calibration-method method")
@option("--calibration table", FILE, "Ranges that `multires-edge calibrate` wrote, instead of data.")
@option(
    "--quantize parts",
    PART_LIST,
    "Parts that int8 is for: mixing, output, encoder, head, filters, queues.",
    default="mixing,output",
)
@option(
    "--max-drop",
    float,
    "Budget: keep weights in float32 until the metric of the int8 graphs drops by at most D.",
    metavar="D",
)
@option("--budget-data", FILE, "Data to measure the budget on  [default: the calibration data]")
@tree_options
@option("--verify-data", FILE, "Real data (.npz with x or tokens) to compare the graphs on, besides noise.")
@option(
    "--module",
    "PACKAGE.FILE:FUNCTION",
    "Your own network: import this function, which runs your code, and load CHECKPOINT into what it returns.",
)
@json_option
def export(
    checkpoint: Path | str, output: Path | None, force: bool, module: str | None, as_json: bool, **given: Any
) -> None:
    """Turn a trained CHECKPOINT into a proven bundle.

    CHECKPOINT is the file that the published training code saves (ckpt.pth, with its args.txt beside it), a
    bare state dict, or a .safetensors file. The bundle holds a full-sequence graph, a single-step graph with
    one queue per scale, and the proof: every graph is compared with PyTorch in float64. Exit code: 0 when
    every check passed, 1 when one failed, 2 for an error in what was given.

    With --module the network is your own PyTorch module, and so is the reference of every check.

    CHECKPOINT may be hf://ORG/NAME[@REVISION][/FILE] of the Hugging Face hub (extra hub); DIR is then
    NAME.bundle.
    """
    require_export_extra()
    if isinstance(checkpoint, str):
        checkpoint, output = _fetch(checkpoint, output)
    if module is not None:
        _finish(_export_own(checkpoint, output, module, force, given), as_json)
        return
    from multires_edge.export.options import ExportOptions, Int8Options, output_folder
    from multires_edge.models.inference import Overrides

    options = pick(ExportOptions, given, int8=pick(Int8Options, given), overrides=pick(Overrides, given))
    options.check(checkpoint, output_folder(checkpoint, output), force=force)
    from multires_edge.export.bundle import ParityError, export_bundle

    with Progress() as progress:
        try:
            result = export_bundle(checkpoint, output, options, force=force, progress=progress)
        except ParityError as error:
            result = error.result
    _finish(result, as_json)


def _fetch(address: str, output: Path | None) -> tuple[Path, Path]:
    """Download a checkpoint. Returns its path and that of the bundle."""
    from multires_edge.export.hub import HubAddress, fetch_checkpoint

    parsed = HubAddress.parse(address)
    with Progress() as progress:
        path = fetch_checkpoint(parsed, progress)
    return path, output or Path(f"{parsed.repo.partition('/')[2]}.bundle")


def _export_own(
    checkpoint: Path, output: Path | None, module: str, force: bool, given: dict[str, Any]
) -> ExportResult | ModuleResult:
    """Export the user's own module with the weights of a checkpoint."""
    from multires_edge.export.options import ExportOptions, Int8Options, output_folder
    from multires_edge.models.inference import Overrides

    context = click.get_current_context()
    for field in fields(Overrides):
        name = field.name
        if name in ("weights", "pool") or context.get_parameter_source(name) is ParameterSource.DEFAULT:
            continue
        raise ConfigError(
            f"--{name.replace('_', '-')} is for MultiresNets that are read from their checkpoint; with "
            "--module the module alone says what it computes"
        )
    options = pick(ExportOptions, given, int8=pick(Int8Options, given))
    final = output_folder(checkpoint, output)
    options.check(checkpoint, final, force=force)
    from multires_edge.export.bundle import ParityError
    from multires_edge.export.module import export_module
    from multires_edge.export.trace.module import ModuleParityError
    from multires_edge.export.trace.own_code import build_module, load_weights

    net, example = build_module(module)
    load_weights(net, checkpoint, given["weights"])
    with Progress() as progress:
        try:
            return export_module(
                net, example, final, options,
                force=force, source=checkpoint, weights=given["weights"], progress=progress,
            )  # fmt: skip
        except (ParityError, ModuleParityError) as error:
            return error.result


def _finish(result: ExportResult | ModuleResult, as_json: bool) -> None:
    if as_json:
        print_json(_summary(result))
    else:
        _print_summary(result)
    if not result.passed:
        sys.exit(PARITY_FAILED)


def main() -> None:
    """Entry point of ``multires-export``."""
    export(prog_name="multires-export")


def require_export_extra() -> None:
    """Raise MissingExtraError unless everything that exporting needs is installed."""
    require_extra("export", "exporting", "torch", "onnx", "onnxruntime", "jinja2", "matplotlib")


def _summary(result: ExportResult | ModuleResult) -> dict[str, Any]:
    from multires_edge.format.fields import plain

    quantization = _quantization_of(result)
    return {
        "bundle": str(result.path),
        "passed": result.passed,
        "seconds": round(result.seconds, 2),
        "target": result.manifest.target,
        "targets": result.manifest.targets,
        "pool": result.manifest.pool,
        "model": plain(result.manifest.network),
        "assumed": list(result.manifest.source.assumed),
        "files": {name: path.stat().st_size for name, path in _files(result)},
        "parity": plain(result.proof.parity()),
        "quantization": None if quantization is None else quantization.to_json(),
    }


def _quantization_of(result: ExportResult | ModuleResult) -> Quantization | None:
    return getattr(result, "quantization", None)


def _files(result: ExportResult | ModuleResult) -> list[tuple[str, Path]]:
    paths = sorted(path for path in result.path.rglob("*") if path.is_file())
    return [(path.relative_to(result.path).as_posix(), path) for path in paths]


def _print_summary(result: ExportResult | ModuleResult) -> None:
    network, module = result.manifest.network, result.manifest.source.module
    found = f"found in your module {module}: " if module else ""
    click.echo(f"{result.path}  {found}{_described(network)}, target {', '.join(result.manifest.targets)}")
    for check in result.proof.checks:
        click.echo(check.line())
    quantization = _quantization_of(result)
    if quantization is not None:
        _print_quantization(quantization)
    rows = [(name, human_bytes(path.stat().st_size)) for name, path in _files(result)]
    print_table(rows, frozenset([1]))
    state = [
        f"{human_bytes(spec.state_bytes)} in {precision}"
        for precision, spec in result.manifest.graphs["step"].items()
    ]
    click.echo(f"state of one stream: {', '.join(state)}")
    for assumed in result.manifest.source.assumed:
        click.echo(f"assumed: {assumed}")
    if not isinstance(network, ModelConfig):
        click.echo(f"no MultiresNet: {network.unmatched}")
        click.echo(COST)
        click.echo(network.filters)
    verdict = "proven" if result.passed else "NOT PROVEN: parity failed, do not use this bundle"
    click.echo(f"{verdict}, against {result.proof.basis}, in {result.seconds:.1f} s")


def _described(network: ModelConfig | ModuleConfig) -> str:
    if isinstance(network, ModelConfig):
        return (
            f"{network.task}, {network.n_layers} layers of {network.d_model}, {network.tree_select} tree of "
            f"depth {network.depth}, filters of {network.kernel_size}"
        )
    return f"your module {network.module}, with a receptive field of {network.receptive_field:,} steps"


def _print_quantization(quantization: Quantization) -> None:
    print_table(quantization.rows(), frozenset(range(2, 6)))
    budget = quantization.budget
    if budget is not None:
        click.echo(
            f"{len(budget.keep)} of {len(budget.alone)} kept in float32: {budget.metric} drops by "
            f"{budget.effect.drop:.2g} (budget {budget.max_drop:g}), output error {budget.effect.error:.2g}, "
            f"on {budget.records} records of {budget.data}"
        )
