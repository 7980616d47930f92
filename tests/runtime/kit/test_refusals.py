"""What the kit's script refuses, in one line, and what it leaves then."""

from __future__ import annotations

import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from tests.runtime.kit.conftest import NATIVE, alone, report_in, run_alone

Check = Callable[..., int]


@pytest.mark.parametrize(
    "name",
    [
        "bundle/golden.npz",
        "bundle/manifest.json",
        "states.npz",
        "bundle/full.onnx",
        "kit.json",
        "multires_edge/format/golden.py",
    ],
)
def test_a_truncated_or_missing_file(name: str, kit: Path, check: Check, capsys: Any) -> None:
    path = kit / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for _ in ("truncated", "missing"):
        assert check() == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and name in error and "unpack" in error
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["checks.py", "opened.py"])
def test_its_own_parts(name: str, kit: Path) -> None:
    part = kit / "multires_edge" / "runtime" / "kit" / name
    part.unlink() if name == "checks.py" else part.write_text(part.read_text()[:-1500] + "\n(")
    done = run_alone(kit, "--backend", "onnxruntime")
    assert done.returncode == 2 and "unpack the kit again" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and name.removesuffix(".py") in done.stderr


@pytest.mark.parametrize("name", ["", ".", "/", "bundle"])
def test_a_report_that_is_a_folder(name: str, kit: Path, check: Check, capsys: Any) -> None:
    assert check("--report", str(kit / name) if name.isalpha() else name) == 2
    output = capsys.readouterr()
    assert "is not a file" in output.err and "✓" not in output.out


@pytest.mark.slow
def test_an_output_that_is_closed(kit: Path) -> None:
    command = alone(kit, "--backend", "onnxruntime", "--steps", "1000000")
    with subprocess.Popen(
        command, cwd=kit, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read()
    assert process.returncode == 2 and error.count("\n") == 1 and "pipe was closed" in error


@pytest.mark.parametrize("streams", ["0", "a", ",", "1,-2"])
def test_streams_that_are_no_counts(streams: str, check: Check, capsys: Any) -> None:
    with pytest.raises(SystemExit, match="2"):
        check(f"--streams={streams}")
    assert "expected positive numbers" in capsys.readouterr().err


def test_a_graph_that_loads_and_does_not_run(kit: Path, check: Check, capsys: Any) -> None:
    path = kit / "bundle" / "step.onnx"
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == "rings/slots")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1, tensor.name))
    onnx.save(model, path)
    assert check("--precision", "fp32") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "step.onnx was changed: unpack the kit again" in error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "absent", "words"),
    [
        (("--backend", "onnxruntime"), ("onnxruntime",), ("-m venv", "pip install onnxruntime")),
        (("--backend", "onnxruntime"), ("numpy",), ("numpy is not installed", "python3-numpy")),
    ],
)
def test_a_missing_package(
    arguments: tuple[str, ...], absent: tuple[str, ...], words: tuple[str, ...], kit: Path
) -> None:
    done = run_alone(kit, *arguments, absent=(NATIVE, *absent))
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and all(word in done.stderr for word in words)
    assert not (kit / "device_report.json").exists()


def test_a_provider_or_precision_that_is_not_there(check: Check, capsys: Any) -> None:
    assert check("--provider", "TensorrtExecutionProvider") == 2
    assert "has only" in capsys.readouterr().err
    assert check("--precision", "int8") == 2
    assert "it has: fp32, fp16" in capsys.readouterr().err


def test_options_of_a_provider(check: Check, capsys: Any, tmp_path: Path) -> None:
    assert check("--provider-option", "one=1", "--provider-option", "two=2", "--precision", "fp32") == 0
    report = report_in(tmp_path)
    assert report["backend"]["provider_options"] == "one=1, two=2"
    with pytest.raises(SystemExit, match="2"):
        check("--provider-option", "one")
    assert "'one', expected KEY=VALUE" in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_leaves_nothing(kit: Path) -> None:
    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    options = ("--backend", "onnxruntime", "--steps", "0", "--precision", "fp32")
    done = run_alone(kit, *options, preexec_fn=small_files_only)
    assert done.returncode == 2 and "device_report.json: cannot be written" in done.stderr
    assert not list(kit.glob("*device_report*"))


@pytest.mark.slow
def test_a_killed_run_leaves_no_report(kit: Path) -> None:
    command = alone(kit, "--backend", "onnxruntime", "--steps", "1000000")
    with subprocess.Popen(command, cwd=kit, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("[✓]" in printed for printed in iter(process.stdout.readline, ""))
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not list(kit.glob("*device_report*"))
