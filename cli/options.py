"""The types and options that several commands use. Shells can complete their values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from multires_edge.base.errors import ConfigError
from multires_edge.base.names import check_name, split_names
from multires_edge.format.targets import PRECISIONS, TARGETS

Function = TypeVar("Function", bound=Callable[..., Any])
Known = Callable[[], Iterable[str]]


class Name(click.ParamType):  # type: ignore[type-arg]
    """One of the known names. An unknown name is refused, and the message has the nearest known name.

    ``known`` is called when a value is checked or completed, so it may import packages that ``--help`` does
    not need.
    """

    def __init__(self, what: str, known: Known | None = None) -> None:
        self.name = what
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._checked(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)

    def _checked(self, value: str) -> Any:
        if self._known is not None:
            check_name(self.name, value, self._known())
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(name) for name in self._offered(ctx) if name.startswith(incomplete)]

    def get_metavar(self, *_: Any, **__: Any) -> str | None:
        """The names, for an option without a metavar of its own."""
        return f"[{'|'.join(self._known())}]" if self._known is not None else None

    def _offered(self, ctx: click.Context) -> Iterable[str]:
        if self.name == "precision":
            return _precisions_of(ctx) or PRECISIONS
        return self._known() if self._known is not None else ()


class Names(Name):
    """A tuple of different names, given with commas between them. Blanks around a name are ignored."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if isinstance(value, tuple) else super().convert(value, param, ctx)

    def _checked(self, value: str) -> tuple[str, ...]:
        names = split_names(value)
        for name in names:
            super()._checked(name)
        return tuple(names)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        given = before.split(",")
        offered = (name for name in self._offered(ctx) if name.startswith(last) and name not in given)
        return [CompletionItem(before + comma + name) for name in offered]


class BundlePath(click.Path):
    """The folder of a bundle. `open_bundle` checks it."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="dir")]


def _backends() -> Iterable[str]:
    from multires_edge.runtime.backends.registry import backend_names

    return ("auto", *backend_names())


def _whole_sequence_backends() -> Iterable[str]:
    from multires_edge.runtime.backends.registry import whole_sequence_backends

    return whole_sequence_backends()


def _methods() -> Iterable[str]:
    from multires_edge.calibration.ranges import METHODS

    return METHODS


def _parts() -> Iterable[str]:
    from multires_edge.export.options import PARTS

    return PARTS


FILE = click.Path(path_type=Path)
TARGET, TARGET_LIST = Name("target", lambda: TARGETS), Names("target", lambda: TARGETS)
PRECISION, PRECISION_LIST = Name("precision", lambda: PRECISIONS), Names("precision", lambda: PRECISIONS)
BACKEND, WHOLE_SEQUENCE_BACKEND = Name("backend", _backends), Name("backend", _whole_sequence_backends)
METHOD = Name("method", _methods)
PART_LIST = Names("part", _parts)
GRAPH_LIST = Names("graph", lambda: ("full", "step", "taps"))

bundle_argument = click.argument("bundle", type=BundlePath())
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
backend_option = click.option(
    "--backend",
    type=BACKEND,
    default="auto",
    show_default=True,
    help="Backend that runs the network; auto is the fastest here.",
)


def tree_options(command: Function) -> Function:
    """Add ``--tree-select``, ``--depth`` and ``--training-length``, the fields of inference.Overrides."""
    for option in (
        click.option(
            "--training-length",
            type=click.IntRange(2),
            metavar="N",
            help="Steps of a training sequence; the depth of a uniform tree follows from it.",
        ),
        click.option("--depth", type=click.IntRange(1), metavar="N", help="Depth of a uniform tree."),
        click.option(
            "--tree-select",
            type=click.Choice(["fading", "uniform"]),
            help="Kind of tree, if no args.txt says it.",
        ),
    ):
        command = option(command)
    return command


def _precisions_of(ctx: click.Context) -> list[str]:
    """The precisions of the bundle in the command line. Its manifest is read without checks."""
    # click does not parse the arguments before an option that has no value yet.
    bundle = ctx.params.get("bundle") or next(iter(ctx.args), None)
    if bundle is None:
        return []
    try:
        return list(json.loads((Path(bundle) / "manifest.json").read_bytes())["graphs"]["full"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
