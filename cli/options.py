"""The types and options that several commands use. Shells can complete their values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from multires_edge.base.errors import ConfigError
from multires_edge.base.names import check_name, split_names
from multires_edge.cli.paths import FilePath
from multires_edge.format.config import OUTPUT_ACTIVATIONS
from multires_edge.format.pooling import usages
from multires_edge.format.targets import PRECISIONS, TARGETS

Function = TypeVar("Function", bound=Callable[..., Any])
T = TypeVar("T")
Known = Callable[[], Iterable[str]]


def together(*options: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """One decorator that adds several options, in the order of the help."""

    def decorate(command: Function) -> Function:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def option(names: str, kind: Any, text: str, **attributes: Any) -> Callable[[Function], Function]:
    """An option of a command.

    ``names`` are its names and the name of its parameter, if that is another one. ``kind`` is the type of
    its values, or what the help calls them if they are texts. ``text`` is its help.
    """
    kind = {"metavar": kind} if isinstance(kind, str) else {"type": kind}
    return click.option(*names.split(), help=text, **kind, **attributes)


def flag(names: str, text: str) -> Callable[[Function], Function]:
    """An option without a value."""
    return click.option(*names.split(), is_flag=True, help=text)


def pick(cls: type[T], given: dict[str, Any], **others: Any) -> T:
    """An object of a dataclass. Options in ``given`` with the names of its fields are their values."""
    names = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    return cls(**{name: value for name, value in given.items() if name in names}, **others)


class Number(click.IntRange):
    """A whole number."""

    name = "whole number"

    def get_metavar(self, *_: Any, **__: Any) -> str:
        return "N"


class Name(click.ParamType):  # type: ignore[type-arg]
    """One of the known names. An unknown name is refused, and the message has the nearest known name.

    ``known`` is called when a value is checked or completed, or for the help if that has the names instead of
    ``metavar``. So it may import packages that the help of other commands does not need.
    """

    def __init__(self, what: str, known: Known | None = None, metavar: str | None = "NAME") -> None:
        self.name = what
        self._known, self._metavar = known, metavar

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

    def get_metavar(self, *_: Any, **__: Any) -> str:
        return self._metavar or f"[{'|'.join(self._known() if self._known else ())}]"

    def _offered(self, ctx: click.Context) -> Iterable[str]:
        if self.name == "precision":
            return _precisions_of(ctx) or PRECISIONS
        return self._known() if self._known is not None else ()


class Names(Name):
    """A tuple of different names, given with commas between them. Blanks around a name are ignored."""

    def __init__(self, what: str, known: Known | None = None) -> None:
        super().__init__(what, known, "LIST")

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


class _Renaming(click.ParamType):  # type: ignore[type-arg]
    """A channel and a lead. Several of them become a dictionary."""

    name = "[SOURCE:]CHANNEL=LEAD"

    def get_metavar(self, *_: Any, **__: Any) -> str:
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        channel, _, lead = value.partition("=")
        if not channel or not lead:
            self.fail(f"{value!r}, expected CHANNEL=LEAD, such as II=MLII", param, ctx)
        return channel, lead


class _BlockPart(click.ParamType):  # type: ignore[type-arg]
    """A part of a residual block and its value. Several of them become a dictionary."""

    name = "NAME=VALUE"

    def get_metavar(self, *_: Any, **__: Any) -> str:
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from multires_edge.models.block_options import block_option

        try:
            return block_option(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


def _backends() -> Iterable[str]:
    from multires_edge.runtime.backends.registry import backend_names

    return backend_names()


def _methods() -> Iterable[str]:
    from multires_edge.calibration.ranges import METHODS

    return METHODS


def _parts() -> Iterable[str]:
    from multires_edge.export.options import PARTS

    return PARTS


FILE, OUTPUT = FilePath(), FilePath(written=True)
OUTPUT_FOLDER = FilePath("DIR", written=True)
AT_LEAST_1 = Number(1)
TARGET, TARGET_LIST = Name("target", lambda: TARGETS), Names("target", lambda: TARGETS)
PRECISION, PRECISION_LIST = Name("precision", lambda: PRECISIONS), Names("precision", lambda: PRECISIONS)
BACKEND = Name("backend", lambda: ("auto", *_backends()), metavar=None)
NAMED_BACKEND = Name("backend", _backends, metavar=None)
PART_LIST = Names("part", _parts)
GRAPH_LIST = Names("graph", lambda: ("full", "step", "taps"))

# `open_bundle` checks it.
bundle_argument = click.argument(
    "bundle",
    type=FilePath("BUNDLE"),
    shell_complete=lambda context, argument, incomplete: [CompletionItem(incomplete, type="dir")],
)
checkpoint_argument = click.argument("checkpoint", type=FilePath("CHECKPOINT"))


def method_option(names: str) -> Callable[[Function], Function]:
    """The method of :func:`calibration.ranges.method_named`."""
    text = "How ranges are chosen: minmax, percentile, entropy or mse."
    return option(names, Name("method", _methods), text, default="percentile")


# The parameter of `open_bundle`.
key_option = option(
    "--key",
    FILE,
    "Public key of minisign: refuse a bundle that was not signed with it, or changed since.",
    envvar="MULTIRES_EDGE_KEY",
)
json_option = flag("--json as_json", "Print the result as JSON.")
backend_option = option(
    "--backend", BACKEND, "Backend that runs the network; auto is the fastest here.", default="auto"
)
window_option = option(
    "--window",
    click.FloatRange(min=0, min_open=True),
    "Cut the recordings of a folder into pieces of this length  [default: 60]",
    metavar="SECONDS",
)
# The fields of inference.Overrides.
tree_options = together(
    option("--tree-select", click.Choice(["fading", "uniform"]), "Kind of tree, if no args.txt says it."),
    option("--depth", AT_LEAST_1, "Depth of a uniform tree."),
    option(
        "--training-length",
        Number(2),
        "Steps of a training sequence; the depth of a uniform tree follows from it.",
    ),
    option("--encoder", click.Choice(["linear", "token"]), "Kind of encoder, if its shape does not say it."),
    option(
        "--pool",
        "POOL",
        f"Pooling over time: {usages()}; or none for an output at every step  [default: the network's own, "
        "over all steps]",
    ),
    click.option(
        "--shifted/--unshifted",
        default=None,
        help="Whether the network shifts its input by one step  [default: only autoregressive networks]",
    ),
    option(
        "--output-activation",
        click.Choice(list(OUTPUT_ACTIVATIONS)),
        "Function that the network ends with  [default: none, the outputs are logits]",
    ),
    option(
        "--block",
        _BlockPart(),
        "What a residual block computes, where its tensors do not say it, such as norm=rms, "
        "norm_place=before, norm_eps=1e-6 or activation=silu; may be repeated.",
        multiple=True,
        callback=lambda context, parameter, pairs: dict(pairs),
    ),
    option("--weights", "NAME", "Network of a checkpoint with several, such as model_ema."),
)
# The fields of StreamOptions that say how leads become channels.
lead_options = together(
    flag("--allow-missing", "Use the card's mean for leads that are missing."),
    option(
        "--lead rename",
        _Renaming(),
        "Read the card's CHANNEL from the lead named LEAD, or the third as #3, in sources that have it; may "
        "be repeated.",
        multiple=True,
        callback=lambda context, parameter, pairs: dict(pairs),
    ),
)


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
