"""The option ``--backend``, whose names are those of the registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

Command = TypeVar("Command", bound=Callable[..., Any])


class BackendOption(click.Option):
    """A backend by its name, which the runtime checks. Only help and completion list the names.

    The option for several backends is that of `bench`, which runs whole sequences too.
    """

    def make_metavar(self, *_: Any, **__: Any) -> str:
        return f"[{'|'.join(self._names())}]"

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in self._names() if name.startswith(incomplete)]

    def _names(self) -> list[str]:
        from multires_edge.runtime.backends.registry import backend_names, whole_sequence_backends

        return whole_sequence_backends() if self.multiple else ["auto", *backend_names()]


def backend_option(command: Command) -> Command:
    """Add ``--backend``; "auto" is the fastest that runs here."""
    option = click.option(
        "--backend", cls=BackendOption, default="auto", show_default=True, help="What runs the network."
    )
    return option(command)
