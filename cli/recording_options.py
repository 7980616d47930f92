"""Options of the commands that read recordings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from multires_edge.base.errors import InputError

Function = TypeVar("Function", bound=Callable[..., Any])


def lead_options(function: Function) -> Function:
    """Add ``--allow-missing`` and ``--lead``, the parameters ``allow_missing`` and ``renamed``."""
    for option in (
        click.option(
            "--lead",
            "renamed",
            multiple=True,
            metavar="CHANNEL=LEAD",
            help="Read the card's CHANNEL from the lead named LEAD; may be repeated.",
        ),
        click.option("--allow-missing", is_flag=True, help="Use the card's mean for leads that are missing."),
    ):
        function = option(function)
    return function


def window_option(function: Function) -> Function:
    """Add ``--window``."""
    return click.option(
        "--window",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Cut the recordings of a folder into pieces of this length  [default: 60]",
    )(function)


def renamed_leads(pairs: tuple[str, ...]) -> dict[str, str]:
    """The recording's lead by the card's channel, from CHANNEL=LEAD. Raises InputError."""
    renamed = {}
    for pair in pairs:
        channel, _, lead = pair.partition("=")
        if not channel or not lead:
            raise InputError(f"--lead is {pair!r}, expected CHANNEL=LEAD, such as II=MLII")
        renamed[channel] = lead
    return renamed
