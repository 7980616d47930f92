"""``multires-edge triton``: a bundle as a model of NVIDIA's Triton Inference Server."""

from __future__ import annotations

from pathlib import Path

import click

from multires_edge.cli.command import Command
from multires_edge.cli.options import FILE, PRECISION, Name, bundle_argument, flag, json_option, option
from multires_edge.cli.paths import FilePath, beside, check_spares_inputs
from multires_edge.cli.terminal import print_json


def _backends() -> tuple[str, ...]:
    from multires_edge.export.triton import BACKENDS

    return BACKENDS


@click.command(cls=Command)
@bundle_argument
@option("-o --output", FilePath("DIR"), "The model repository; other models in it stay.", required=True)
@option("--name", "NAME", "Name of the model  [default: that of the bundle]")
@option("--backend", Name("backend", _backends, metavar=None), "What computes.", default="native")
@option("--precision", PRECISION, "Precision of the weights.", default="fp32")
@option("--streams", click.IntRange(1, 1 << 16), "Most sequences at a time.", default=256, metavar="N")
@option("--idle", "TIME", "A sequence without a request ends after this time.", default="1min")
@option("--wheel", FILE, "This package for the server's Python, if that does not have it.")
@flag("--force", "Replace a model of this name.")
@json_option
def triton(
    bundle: Path,
    output: Path,
    name: str | None,
    backend: str,
    precision: str,
    streams: int,
    idle: str,
    wheel: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write BUNDLE as a model of Triton Inference Server.

    A sequence of Triton is a stream. The native engine runs in the Python backend and takes chunks of any
    length. onnxruntime and tensorrt take one step per request, and Triton keeps their states. See
    docs/triton.md.
    """
    from multires_edge.export.triton.repository import Serving, write_model
    from multires_edge.runtime.bundle import open_bundle
    from multires_edge.runtime.ecg.settings import parse_duration

    serving = Serving(
        backend=backend,
        precision=precision,
        streams=streams,
        idle=parse_duration(idle, "--idle"),
        wheel=wheel,
    )
    name = name or beside(bundle, "").name
    check_spares_inputs(output / name, [bundle])
    model = write_model(open_bundle(bundle), output, name, serving, force=force)
    if as_json:
        print_json({"bundle": str(bundle), "model": str(model), "name": name, "backend": backend})
        return
    click.echo(f"{model}: {backend}, {precision}, at most {streams} sequences")
    if backend == "tensorrt":
        folder = model / "1"
        click.echo(f"next, on the GPU: trtexec --onnx={folder}/model.onnx --saveEngine={folder}/model.plan")
    else:
        click.echo(f"next: tritonserver --model-repository={output}")
