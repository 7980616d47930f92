"""``multires-edge page``: a page that decides on recordings in a browser."""

from __future__ import annotations

from pathlib import Path

import click

from multires_edge.cli.command import Command
from multires_edge.cli.options import (
    FILE,
    OUTPUT_FOLDER,
    PRECISION,
    bundle_argument,
    flag,
    json_option,
    option,
)
from multires_edge.cli.paths import beside
from multires_edge.cli.terminal import Progress, human_bytes, print_json


@click.command(cls=Command)
@bundle_argument
@option("-o --output", OUTPUT_FOLDER, "Folder to write  [default: BUNDLE with the suffix .page]")
@option("--precision", PRECISION, "fp32, fp16 or int8.", default="fp32")
@option("--every", "TIME", "Record time between decisions.", default="0.5s")
@option(
    "--example",
    FILE,
    "Recording that the page offers: a WFDB record, an .edf or a .csv file, with all leads of BUNDLE.",
)
@option("--rate", float, "Rate of an example that does not name it.", metavar="HZ")
@option("--unit", "UNIT", "Unit of an example that does not name it: uV, mV or V.")
@flag("--force", "Replace an existing page.")
@json_option
def page(
    bundle: Path,
    output: Path | None,
    precision: str,
    every: str,
    example: Path | None,
    rate: float | None,
    unit: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write a page that runs BUNDLE in a browser.

    The folder has the network in WebAssembly. Any file server can serve it, without a network: the page
    loads nothing else, and recordings stay in the browser. It decides what `multires-edge stream` decides.
    """
    from multires_edge.export.bundle_folder import check_output
    from multires_edge.export.web.page import PAGE, Example, write_page
    from multires_edge.runtime.bundle import open_bundle

    final = output or beside(bundle, ".page")
    check_output(final, force=force, kind=PAGE)
    with Progress() as progress:
        progress("checking digests")
        size = write_page(
            open_bundle(bundle), final, precision=precision, every=every, force=force, progress=progress,
            example=None if example is None else Example(example, rate, unit),
        )  # fmt: skip
    if as_json:
        print_json({"bundle": str(bundle), "page": str(final), "precision": precision, "wasm_bytes": size})
        return
    click.echo(f"{final}: network.wasm has {human_bytes(size)}, weights in {precision}")
    click.echo(f"next: python3 -m http.server --directory {final} --bind 127.0.0.1 8000")
