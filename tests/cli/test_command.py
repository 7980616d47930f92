"""The behaviour that all commands share, as a user sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from multires_edge import __version__
from multires_edge.base.errors import InputError
from multires_edge.cli.command import Command
from multires_edge.cli.commands.export import export
from multires_edge.cli.main import COMMANDS, main

PROGRAM = [sys.executable, "-m", "multires_edge"]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def raising(error: BaseException) -> Command:
    @click.command(cls=Command)
    def command() -> None:
        raise error

    return command


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "line"),
        [
            (InputError("x is 1,\nexpected 2"), "error: x is 1, expected 2"),
            (MemoryError(), "error: not enough memory; use smaller data or fewer streams"),
            (FileNotFoundError(2, "No such file", "a/b"), "error: a/b: No such file"),
            (OSError(28, "No space left"), "error: the output cannot be written (No space left)"),
            (KeyError("x"), "error: KeyError: 'x'; this is a bug in multires-edge: report it with the "),
        ],
    )
    def test_are_one_line_and_exit_code_2(self, error: Exception, line: str) -> None:
        result = CliRunner().invoke(raising(error))
        assert result.exit_code == 2 and result.stdout == ""
        assert result.stderr.startswith(line) and result.stderr.count("\n") == 1

    def test_an_encoding_without_a_letter_is_no_error(self) -> None:
        code = "import click; from multires_edge.cli.command import Command\n"
        code += r"Command('x', callback=lambda: click.echo('\u2713 \xe4')).main([])"
        environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (0, b"\\u2713 \xe4\n"), done.stderr

    def test_debug_shows_the_traceback_before_the_line(self) -> None:
        result = CliRunner().invoke(raising(InputError("wrong")), ["--debug"])
        assert result.exit_code == 2
        assert result.stderr.startswith("Traceback") and result.stderr.endswith("\nerror: wrong\n")

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (["export"], "missing argument 'CHECKPOINT' (see main export --help)"),
            (["build", "b"], "missing option '--target' (see main build --help)"),
            (["sample", "b", "--count", "0"], "--count: 0 is not in the range x>=1 (see main sample --help)"),
            (["bench", "b", "--steps", "x"], "--steps: 'x' is not a valid whole number"),
            (["inspect", "b", "--jason"], "no such option '--jason'"),
            (["inspect", "a", "b"], "got unexpected extra argument (b)"),
            (["evaluate", "b", "--data", "d", "--graph", "x"], "--graph: 'x' is not one of 'full', 'step'"),
            (["inspect", "b\udcff"], "'b\\udcff' is not UTF-8; rename the file (see main --help)"),
            (["exprt", "b"], "no such command 'exprt'. Did you mean 'export'? (see main --help)"),
            (
                ["export", "c", "--precision", "fp23"],
                "--precision: unknown precision 'fp23', expected one of",
            ),
            (["export", "c", "--target", "cpu,"], "--target: 'cpu,' has an empty name"),
            (["export", "c", "--quantize", "head,head"], "--quantize: 'head,head' has a name twice"),
            (["evaluate", "b", "--data", "d", "--precision", ","], "--precision: ',' has an empty name"),
            (["kit", "b", "--precision", "fp32,,int8"], "--precision: 'fp32,,int8' has an empty name"),
            (["build", "b", "--target", "rtx", "--compute-capability", "8.6,8.6"], "has a name twice"),
            (["stream", "b", "s", "--leads", "I,,II"], "--leads: 'I,,II' has an empty name"),
            (["calibrate", "c", "--data", "d", "--method", "kl"], "--method: unknown method 'kl'"),
        ],
    )
    def test_of_usage_are_in_the_same_style(self, arguments: list[str], line: str) -> None:
        result = invoke(*arguments)
        assert result.exit_code == 2 and result.stdout == ""
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
        assert line in result.stderr

    def test_warnings_are_lines(self) -> None:
        @click.command(cls=Command)
        def command() -> None:
            warnings.warn("first", stacklevel=1)
            warnings.warn("not for users", DeprecationWarning, stacklevel=1)

        result = CliRunner().invoke(command)
        assert (result.exit_code, result.stderr) == (0, "warning: first\n")

    def test_a_full_disk_under_standard_output(self) -> None:
        for arguments in (["targets"], ["--help"], ["doctor", "--json"]):
            with open("/dev/full", "w") as full:  # noqa: PTH123
                result = subprocess.run(
                    [*PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
                )
            assert result.returncode == 2
            assert result.stderr == "error: the output cannot be written (No space left on device)\n"

    def test_a_reader_that_goes_is_no_error(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        with open(writer, "w") as pipe:  # noqa: PTH123
            result = subprocess.run(
                [*PROGRAM, "targets"], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False
            )
        assert (result.returncode, result.stderr) == (141, "")

    def test_ctrl_c(self) -> None:
        program = (
            "import signal, time, click\n"
            "from multires_edge.cli.command import Command\n"
            # A shell starts background processes with SIGINT ignored.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "@click.command(cls=Command)\n"
            "def command():\n"
            "    print('ready', flush=True)\n"
            "    time.sleep(60)\n"
            "command()\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
        assert (process.returncode, stderr) == (130, "\ninterrupted\n")


class TestHelp:
    def test_no_line_of_the_commands_is_cut(self) -> None:
        result = CliRunner().invoke(main, ["--help"], terminal_width=80)
        listed = result.stdout.partition("Commands:\n")[2].splitlines()
        assert [line.split()[0] for line in listed] == [command.name for command in COMMANDS]
        assert not any("..." in line for line in listed) and max(map(len, listed)) <= 80

    def test_without_arguments(self) -> None:
        assert invoke().stdout == invoke("--help").stdout

    @pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command.name))
    def test_every_command_has_help_version_and_debug(self, command: Command) -> None:
        assert "--debug" in invoke(command.name, "-h").stdout
        assert invoke(command.name, "--version").stdout == f"multires-edge {__version__}\n"

    def test_the_version_of_the_programs(self) -> None:
        assert CliRunner().invoke(export, ["--version"]).stdout == f"multires-edge {__version__}\n"
        assert invoke("--version").stdout == f"multires-edge {__version__}\n"
        shown = subprocess.run([*PROGRAM, "--version"], capture_output=True, text=True, check=True)
        assert shown.stdout == f"multires-edge {__version__}\n"

    def test_every_command_that_prints_a_result_prints_it_as_json(self) -> None:
        without = {command.name for command in COMMANDS if "--json" not in options_of(command)}
        assert without == {"monitor", "serve"}


def options_of(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def completed(*words: str, program: str = "multires-edge") -> list[str]:
    """What bash offers for the last word."""
    script = {
        "multires-edge": "multires_edge.cli.main",
        "multires-export": "multires_edge.cli.commands.export",
    }
    variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
    environment = {
        **os.environ,
        variable: "bash_complete",
        "COMP_WORDS": " ".join((program, *words)),
        "COMP_CWORD": str(len(words)),
    }
    code = f"from {script[program]} import main; main(prog_name={program!r})"
    if program == "multires-export":
        code = f"from {script[program]} import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return [line.partition(",")[2] for line in result.stdout.splitlines()]


class TestCompletion:
    def test_of_commands_and_targets(self) -> None:
        assert completed("ca") == ["calibrate"]
        assert completed("build", "b", "--target", "jet") == ["jetpack6", "jetpack7"]

    def test_of_lists(self) -> None:
        assert completed("ckpt.pth", "--precision", "fp32,", program="multires-export") == [
            "fp32,fp16", "fp32,int8",
        ]  # fmt: skip
        assert completed("export", "c", "--quantize", "mixing,h") == ["mixing,head"]

    def test_of_backends_and_methods(self) -> None:
        assert {"auto", "native", "onnxruntime"} <= set(completed("sample", "b", "--backend", ""))
        assert completed("calibrate", "c", "--method", "m") == ["minmax", "mse"]

    def test_of_a_bundles_precisions(self, exported: Path, tmp_path: Path) -> None:
        assert completed("evaluate", str(exported), "--precision", "f") == ["fp32"]
        assert completed("evaluate", str(tmp_path), "--precision", "f") == ["fp32", "fp16"]


class TestJson:
    def test_nothing_but_the_document_is_on_standard_output(self, exported: Path, tmp_path: Path) -> None:
        for arguments in (
            ["doctor"],
            ["targets"],
            ["cmake-dir"],
            ["inspect", exported],
            ["kit", exported, "-o", tmp_path / "kit.tar.gz"],
        ):
            result = invoke(*arguments, "--json")
            assert result.exit_code == 0 and isinstance(json.loads(result.stdout), dict), result.output

    def test_the_kit_and_its_size(self, exported: Path, tmp_path: Path) -> None:
        entry = json.loads(invoke("kit", exported, "-o", tmp_path / "kit.tar.gz", "--json").stdout)
        assert Path(entry["kit"]).stat().st_size == entry["bytes"]

    def test_numbers_that_json_has_not_are_null(self, capsys: Any) -> None:
        from multires_edge.cli.terminal import print_json

        print_json({"a": [float("nan"), 1.5], "b": (float("-inf"),)})
        assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5], "b": [None]}


def test_the_scripts_are_what_is_tested() -> None:
    found = distribution("multires-edge").entry_points.select(group="console_scripts")
    assert {script.name: script.value for script in found} == {
        "multires-edge": "multires_edge.cli.main:main",
        "multires-export": "multires_edge.cli.commands.export:main",
    }


class TestQuickAnswers:
    @pytest.mark.parametrize("wrong", ["none.pth", "ckpt.pth", "card", "table", "data"])
    def test_of_an_export_come_without_torch(self, checkpoint: Path, wrong: str) -> None:
        """Errors that the network is not needed for; the second is an existing bundle."""
        (checkpoint.parent / "ckpt.bundle").mkdir()
        elsewhere = ["-o", str(checkpoint.parent / "out")]
        arguments = {
            "none.pth": ["none.pth"],
            "ckpt.pth": [str(checkpoint)],
            "card": [str(checkpoint), *elsewhere, "--card", str(checkpoint)],
            "table": [str(checkpoint), *elsewhere, "--precision", "int8", "--calibration", str(checkpoint)],
            "data": [str(checkpoint), *elsewhere, "--verify-data", "none.npz"],
        }[wrong]
        assert_without_torch("multires_edge.cli.commands.export", arguments)

    @pytest.mark.parametrize("wrong", ["checkpoint", "data", "card", "method"])
    def test_of_a_calibration(self, checkpoint: Path, wrong: str) -> None:
        data = ["--data", str(checkpoint.parent)]
        arguments = {
            "checkpoint": ["none.pth", *data],
            "data": [str(checkpoint), "--data", "none.npz"],
            "card": [str(checkpoint), *data, "--card", "none.json"],
            "method": [str(checkpoint), *data, "--method", "mse", "--percentile", "99"],
        }[wrong]
        assert_without_torch("multires_edge.cli.main", ["calibrate", *arguments])


def assert_without_torch(module: str, arguments: list[str]) -> None:
    code = (
        "import sys\n"
        f"from {module} import main\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 2, stop.code\n"
        "assert not {'torch', 'onnx', 'onnxruntime', 'matplotlib'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
