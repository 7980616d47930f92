"""``multires-edge targets``: the table of places that a bundle can be made for."""

from __future__ import annotations

import click

from multires_edge.cli.terminal import command_errors, print_json, print_table
from multires_edge.format.targets import TARGETS, Target, dotted


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, with limits and sources.")
@command_errors
def targets(as_json: bool) -> None:
    """List the targets: what graphs they take, and what an engine for them is bound to.

    `multires-export --target cpu,jetpack6` writes graphs for several of them into one bundle;
    `multires-edge build BUNDLE --target rtx` makes the engines of one.
    """
    if as_json:
        print_json(
            {"format": "multires-targets", "version": 1, "targets": [_row(t) for t in TARGETS.values()]}
        )
        return
    head = ("target", "graphs", "queues", "taps", "built by", "compute capability", "precisions")
    rows = [head, *(_cells(target) for target in TARGETS.values())]
    print_table(rows)
    for target in TARGETS.values():
        click.echo(f"\n{target.name}: {target.description}")
        for limit in target.limits:
            click.echo(f"  {limit}")
        for source in target.sources:
            click.echo(f"  source: {source}")


def _row(target: Target) -> dict[str, object]:
    entry = target.to_json()
    return {"name": entry.pop("name"), **entry}


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
        "yes" if target.taps_graph else "",
        built_by,
        ", ".join(target.compute_capabilities) or ("any" if target.package else ""),
        ", ".join(target.precisions),
    )
