"""``multires-edge kit``: the files that check and time a bundle on a device."""

from __future__ import annotations

from pathlib import Path

import click

from multires_edge.cli.command import Command
from multires_edge.cli.options import (
    FILE,
    OUTPUT,
    PRECISION_LIST,
    TARGET,
    bundle_argument,
    flag,
    json_option,
    option,
)
from multires_edge.cli.paths import beside
from multires_edge.cli.terminal import Progress, human_bytes, print_json


@click.command(cls=Command)
@bundle_argument
@option("--target", TARGET, "Target, such as jetpack6  [default: the bundle's]")
@option("-o --output", OUTPUT, "Archive to write  [default: BUNDLE with the suffix .kit.tar.gz]")
@option("--precision precisions", PRECISION_LIST, "Precisions, separated by commas  [default: all]")
@option("--wheel", FILE, "Wheel of multires-edge for the device: the kit takes its native engine.")
@flag("--force", "Replace an existing archive.")
@json_option
def kit(
    bundle: Path,
    target: str | None,
    output: Path | None,
    precisions: tuple[str, ...] | None,
    wheel: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Pack BUNDLE's graphs and a script for a device.

    The device does not need this package. There, `python3 check_device.py` builds the engines, compares
    every step with PyTorch's float64 outputs, measures its time and writes device_report.json, which
    `multires-edge verify BUNDLE --device-report` reads.
    """
    from multires_edge.base.files import check_file, write_file
    from multires_edge.runtime.bundle import open_bundle
    from multires_edge.runtime.kit.archive import make_kit

    final = output or beside(bundle, ".kit.tar.gz")
    check_file(final, force=force)
    with Progress() as progress:
        progress("checking digests")
        opened = open_bundle(bundle)
        content = make_kit(opened, target=target, precisions=precisions or (), wheel=wheel, progress=progress)
        write_file(final, content, force=force)
    if as_json:
        print_json({"bundle": str(bundle), "kit": str(final), "bytes": len(content)})
        return
    click.echo(f"{final}: {human_bytes(len(content))}")
    click.echo(f"on the device: tar xf {final.name} && cd multires-kit-* && python3 check_device.py")
