"""The behaviour that all commands share: errors, warnings, ``--version`` and ``--debug``."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import traceback
import warnings
from typing import Any, NoReturn

import click

from multires_edge.base.errors import MultiresError
from multires_edge.base.files import is_utf8
from multires_edge.cli.paths import check_outputs
from multires_edge.cli.terminal import one_line, say

USAGE_ERROR = 2
INTERRUPTED = 130  # as shells report a program that SIGINT ended
READER_GONE = 141  # as shells report a program that SIGPIPE ended
_DEBUG = "multires_edge.debug"


class _Program(click.Command):
    """A command that can be a program: its usage errors are lines, like all errors."""

    def __init__(self, name: str | None, **kwargs: Any) -> None:
        settings = {"help_option_names": ["-h", "--help"], "show_default": True}
        super().__init__(name, context_settings=settings, **kwargs)
        click.version_option(package_name="multires-edge", message="%(package)s %(version)s")(self)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        alone = kwargs.get("standalone_mode", True)
        kwargs["standalone_mode"] = False  # then click returns the exit code, and raises errors
        if not alone:
            return super().main(*args, **kwargs)
        if isinstance(sys.stdout, io.TextIOWrapper):  # an encoding may lack ✓, or a letter of a name
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            sys.exit(super().main(*args, **kwargs))
        except click.UsageError as error:
            _fail(_usage(error))
        except click.ClickException as error:
            _fail(error.format_message())
        except click.Abort:  # click has written the line break after ^C
            say("interrupted")
            sys.exit(INTERRUPTED)
        except OSError as error:  # while --help or --version is written
            _fail(_message(error))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse names that JSON, Parquet and HTML cannot have."""
        for text in args:
            if not is_utf8(text):
                raise click.UsageError(f"{text!r} is not UTF-8; rename the file", ctx)
        return super().parse_args(ctx, args)


class Command(_Program):
    """A command that is not a group. Its errors are one line and exit code 2."""

    def __init__(self, name: str | None, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        remember = lambda context, _, value: context.meta.update({_DEBUG: value})  # noqa: E731
        click.option(
            "--debug", is_flag=True, expose_value=False, callback=remember, help="Show an error's traceback."
        )(self)

    def get_short_help_str(self, limit: int = 45) -> str:
        """The whole first sentence of the help."""
        return re.split(r"\.\s", self.help or "")[0].strip().removesuffix(".").replace("\n", " ")

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _show_warning
            try:
                check_outputs(ctx)
                return super().invoke(ctx)
            except click.ClickException:
                raise
            except BrokenPipeError:
                _discard_standard_output()
                sys.exit(READER_GONE)
            except Exception as error:
                if ctx.meta.get(_DEBUG):
                    traceback.print_exc()
                _fail(_message(error))


class Group(_Program, click.Group):
    """A group of commands. Without arguments it shows its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which the commands were added."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["--help"])


def _fail(message: str) -> NoReturn:
    say(f"error: {one_line(message)}")
    sys.exit(USAGE_ERROR)


def _usage(error: click.UsageError) -> str:
    """The message, with the name of the option and the command whose help explains it."""
    message = error.format_message()
    if type(error) is click.BadParameter and error.param is not None:
        option = isinstance(error.param, click.Option)
        name = error.param.opts[-1] if option else error.param.human_readable_name
        message = f"{name}: {error.message}"
    elif message[:1].isupper():
        message = message[0].lower() + message[1:]
    help_of = "" if error.ctx is None else f" (see {error.ctx.command_path} --help)"
    return message.removesuffix(".") + help_of


def _message(error: Exception) -> str:
    if isinstance(error, MultiresError):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory; use smaller data or fewer streams"
    if isinstance(error, OSError):
        if error.filename is not None:
            return f"{error.filename}: {error.strerror}"
        _discard_standard_output()  # errors of files are OutputErrors, so this is standard output
        return f"the output cannot be written ({error.strerror or error})"
    return (
        f"{type(error).__name__}: {error}; this is a bug in multires-edge: report it with the traceback "
        "that --debug shows"
    )


def _discard_standard_output() -> None:
    from multires_edge.runtime.ecg.output import discard_standard_output

    with contextlib.suppress(OSError):
        discard_standard_output()


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    if isinstance(message, UserWarning):
        say(f"warning: {one_line(str(message))}")
