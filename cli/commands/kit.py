"""``multires-edge kit``: what a device needs to prove and time a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from multires_edge.cli.terminal import Progress, command_errors, human_bytes


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--target", metavar="NAME", help="The device's, such as jetpack6 (default: the bundle's).")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The archive (default: BUNDLE with the suffix .kit.tar.gz).",
)
@click.option("--precision", metavar="P,...", default="", help="Only these precisions (default: all).")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@command_errors
def kit(bundle: Path, target: str | None, output: Path | None, precision: str, force: bool) -> None:
    """Pack BUNDLE's graphs with recorded streams and one script, for a device without this package.

    There, `python3 check_device.py` builds the engines, compares every step with PyTorch's float64 outputs,
    times it and writes device_report.json, which `multires-edge verify BUNDLE --device-report` reads.
    """
    from multires_edge.base.files import check_file, write_file
    from multires_edge.runtime.bundle import open_bundle
    from multires_edge.runtime.kit.archive import make_kit

    final = output or bundle.absolute().with_suffix(".kit.tar.gz")
    check_file(final, force=force)
    with Progress() as progress:
        progress("checking digests")
        opened = open_bundle(bundle)
        names = [name.strip() for name in precision.split(",") if name.strip()]
        content = make_kit(opened, target=target, precisions=names, progress=progress)
        write_file(final, content, force=force)
    click.echo(f"{final}: {human_bytes(len(content))}")
    click.echo(f"on the device: tar xf {final.name} && cd multires-kit-* && python3 check_device.py")
