"""``multires-edge targets``: the table of targets that a bundle can be made for."""

from __future__ import annotations

import click

from multires_edge.cli.command import Command
from multires_edge.cli.options import json_option
from multires_edge.cli.terminal import print_json, print_table
from multires_edge.format.targets import TARGETS, Target, dotted


@click.command(cls=Command)
@json_option
def targets(as_json: bool) -> None:
    """List the targets, with the graphs that each one takes.

    `multires-export --target cpu,jetpack6` writes graphs for several targets into one bundle.
    `multires-edge build BUNDLE --target rtx` builds the engines of one target.
    """
    if as_json:
        rows = [target.to_json() for target in TARGETS.values()]
        print_json({"format": "multires-targets", "version": 1, "targets": rows})
        return
    head = ("target", "graphs", "queues", "built by", "compute capability", "precisions")
    print_table([head, *(_cells(target) for target in TARGETS.values())])
    for target in TARGETS.values():
        click.echo(f"\n{target.name}: {target.description}")
        for limit in target.limits:
            click.echo(f"  {limit}")
        for source in target.sources:
            click.echo(f"  source: {source}")


def _cells(target: Target) -> tuple[str, ...]:
    built_by = "no engine"
    if target.package is not None:
        where = "anywhere" if target.ahead_of_time else "the device"
        versions = ", ".join(f"{dotted(version)}.x" for version in target.versions)
        built_by = f"{target.package} {versions}, {where}"
    return (
        target.name,
        " or ".join(f"opset {form.opset}" for form in target.forms),
        " or ".join(form.queue_update for form in target.forms),
        built_by,
        ", ".join(target.compute_capabilities) or ("any" if target.package else ""),
        ", ".join(target.precisions),
    )
