"""Command-line options for what a checkpoint does not say of its own network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def tree_options(command: Command) -> Command:
    """Add ``--tree-select``, ``--depth`` and ``--training-length``, as inference.Overrides takes them."""
    for option in (
        click.option(
            "--training-length",
            type=click.IntRange(2),
            metavar="N",
            help="Steps of a training sequence, from which the depth of a uniform tree follows.",
        ),
        click.option("--depth", type=click.IntRange(1), metavar="N", help="Depth of a uniform tree."),
        click.option(
            "--tree-select",
            type=click.Choice(["fading", "uniform"]),
            help="Kind of tree, where no args.txt says it.",
        ),
    ):
        command = option(command)
    return command
