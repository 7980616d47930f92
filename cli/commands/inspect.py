"""``multires-edge inspect``: the contents of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from multires_edge.cli.command import Command
from multires_edge.cli.options import bundle_argument, json_option
from multires_edge.cli.terminal import human_bytes, print_json, print_table

if TYPE_CHECKING:
    from multires_edge.runtime.backends.tensorrt.sidecar import Sidecar


@click.command(cls=Command)
@bundle_argument
@json_option
def inspect(bundle: Path, as_json: bool) -> None:
    """Show BUNDLE's model, graphs, states and preprocessing.

    First the files are compared with their digests.
    """
    from multires_edge.runtime.backends.tensorrt.engine_file import engines_of
    from multires_edge.runtime.backends.tensorrt.sidecar import SIDECAR, read_sidecar
    from multires_edge.runtime.bundle import open_bundle

    opened = open_bundle(bundle)
    manifest = opened.manifest
    sizes = {name: (bundle / name).stat().st_size for name in ["manifest.json", *sorted(manifest.digests())]}
    engines = {path: read_sidecar(path) for path in engines_of(bundle)}
    if as_json:
        entry = {"bundle": str(bundle), "sizes": sizes, "manifest": manifest.to_json()}
        print_json(entry | {"engines": [SIDECAR.to_json(sidecar) for sidecar in engines.values()]})
        return
    card = manifest.card
    click.echo((card and card.name) or manifest.source.file)
    print_table([(key, _text(value)) for key, value in vars(manifest.network).items() if value is not None])
    if manifest.source.module:
        click.echo(f"found in your module {manifest.source.module}")
    parity = opened.parity()
    click.echo(f"parity: {'proven' if parity.passed else 'FAILED'}, against {parity.basis}")
    for assumed in manifest.source.assumed:
        click.echo(f"assumed: {assumed}")
    targets = ", ".join(f"{name} ({' or '.join(forms)})" for name, forms in manifest.targets.items())
    click.echo(f"target: {targets}" + (f", pool: {manifest.pooling}" if manifest.pooling else ""))
    for form, kind, precision, spec in manifest.every_graph():
        click.echo(f"{kind} {precision}: {spec.file}, {human_bytes(sizes[spec.file])}, opset {spec.opset}")
        if form != manifest.form:
            continue  # it has the same inputs, outputs and states
        for arrow, tensors in (("in ", spec.inputs), ("out", spec.outputs)):
            print_table([(arrow, t.name, t.dtype, _shape(t.shape)) for t in tensors])
        rows = [
            ("state", s.input, s.dtype, _shape(s.shape), "in place" if s.in_place else "")
            for s in spec.states
        ]
        if rows:
            print_table(rows)
    for precision, file in manifest.native.items():
        click.echo(f"native {precision}: {file.file}, {human_bytes(sizes[file.file])}")
    for path, built in engines.items():
        click.echo(f"engine: {path.relative_to(bundle)}, {_engine(built)}")
    if manifest.preprocessing:
        print_table(manifest.preprocessing.rows())
    if manifest.labels:
        click.echo("labels: " + ", ".join(manifest.labels))


def _text(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _shape(shape: tuple[int | str, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"


def _engine(sidecar: Sidecar) -> str:
    where = sidecar.device.name if sidecar.device else "sm " + ", ".join(sidecar.compute_capabilities)
    built_by = f"{sidecar.tensorrt.package} {sidecar.tensorrt.version}"
    return f"{human_bytes(sidecar.engine.bytes)}, {built_by}, {where}"
