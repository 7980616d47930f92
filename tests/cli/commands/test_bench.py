"""``multires-edge bench`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from multires_edge.cli.main import main

QUICK = ("--quick", "--steps", 20, "--streams", 2)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


def test_as_json(exported: Path) -> None:
    result = run(exported, *QUICK, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    entry = json.loads(result.stdout)
    assert entry["format"] == "multires-bench" and entry["bundle"] == str(exported)
    assert [each["backend"] for each in entry["results"]] == ["native", "onnxruntime"]
    assert entry["results"][0]["full"]["steps"] == 20


def test_for_a_person(exported: Path) -> None:
    result = run(exported, *QUICK)
    assert result.exit_code == 0, result.stderr
    for words in (
        "native fp32, from C++", "native fp32, from Python", "onnxruntime fp32, from Python",
        "to roofline", "sample to answer", "paced answer", "gain at 2", "whole sequence of 20 steps",
        "first step", "process", "roofline fp32, one thread", "multiply-adds",
    ):  # fmt: skip
        assert words in result.stdout
    assert "not measured" not in result.stdout


def test_one_backend(exported: Path) -> None:
    result = run(exported, *QUICK, "--backend", "onnxruntime", "--threads", 2)
    assert result.exit_code == 0, result.stderr
    assert "onnxruntime fp32" in result.stdout and "native" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "abacus"], "unknown backend 'abacus', expected one of native, onnxruntime"),
        (["--backend", "tensorrt"], "nothing to measure"),
        (["--precision", "fp3"], "unknown precision 'fp3', expected one of fp32"),
        (["--threads", 0], "--threads: 0 is not in the range x>=1"),
        (["--steps", -5], "--steps: -5 is not in the range x>=1"),
        (["--streams", 0], "--streams: 0 is not in the range x>=1"),
    ],
)
def test_what_cannot_be(exported: Path, arguments: list[object], message: str) -> None:
    result = run(exported, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr and result.stderr.count("\n") == 1


def test_no_bundle(tmp_path: Path) -> None:
    result = run(tmp_path / "none")
    assert result.exit_code == 2 and "no such folder" in result.stderr
