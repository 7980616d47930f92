"""``multires-edge push``: a bundle to a hub of models."""

from __future__ import annotations

from pathlib import Path

import click

from multires_edge.cli.command import Command
from multires_edge.cli.options import bundle_argument, flag, json_option, option
from multires_edge.cli.terminal import Progress, print_json


@click.command(cls=Command)
@bundle_argument
@click.argument("address", metavar="hf://ORG/NAME[@REVISION]")
@flag("--private", "Make the repository private if it is new.")
@option("--message", "TEXT", "Message of the commit  [default: the bundle's name]")
@json_option
def push(bundle: Path, address: str, private: bool, message: str | None, as_json: bool) -> None:
    """Upload BUNDLE to a repository of the Hugging Face hub.

    All files go in one commit, with the model card as the README; the repository is made if it is not there.
    Tokens are those of `hf auth login` or HF_TOKEN, HF_ENDPOINT names another hub. Needs the extra hub.
    """
    from multires_edge.export.hub import HubAddress, push_bundle
    from multires_edge.runtime.bundle import open_bundle

    target = HubAddress.parse(address)
    with Progress() as progress:
        progress("checking digests")
        opened = open_bundle(bundle)
        url = push_bundle(opened, target, private=private, message=message, progress=progress)
    if as_json:
        print_json({"bundle": str(bundle), "repository": str(target), "commit": url})
        return
    click.echo(f"{bundle}: pushed to {target}, {url}")
