"""``multires-edge deploy``: a bundle in the place of another, with a way back."""

from __future__ import annotations

from pathlib import Path

import click

from multires_edge.cli.command import Command
from multires_edge.cli.options import Number, flag, json_option, key_option, option
from multires_edge.cli.paths import FilePath
from multires_edge.cli.terminal import Progress, print_json


@click.command(cls=Command)
@click.argument("paths", nargs=-1, type=FilePath(), metavar="[BUNDLE] TARGET")
@flag("--back", "Go back to the bundle before; then there is no BUNDLE.")
@option("--keep", Number(2), "Bundles that stay in TARGET.deployed.", default=2)
@key_option
@json_option
def deploy(paths: tuple[Path, ...], back: bool, keep: int, key: Path | None, as_json: bool) -> None:
    """Put BUNDLE in the place TARGET at once.

    TARGET becomes a link to a copy in TARGET.deployed, which is checked before the link is renamed. Programs
    that run keep the bundle that they opened; start them again. With --key, a bundle that was not signed is
    refused. A deployment that is interrupted changes nothing.
    """
    from multires_edge.format.minisign import read_public_key
    from multires_edge.runtime.deployment import deploy as deploy_bundle
    from multires_edge.runtime.deployment import go_back

    if len(paths) != 2 - back:
        raise click.UsageError(f"expected {'TARGET alone' if back else 'BUNDLE and TARGET'}")
    public = None if key is None else read_public_key(key)
    with Progress() as progress:
        progress("checking and copying")
        if back:
            folder = go_back(paths[0], key=public)
        else:
            folder = deploy_bundle(paths[0], paths[1], key=public, keep=keep)
    if as_json:
        print_json({"target": str(paths[-1]), "folder": str(folder), "signed_by": public and public.name})
        return
    click.echo(f"{paths[-1]} -> {folder.parent.name}/{folder.name}")
