"""``multires-export`` as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from multires_edge.cli.commands.export import export
from multires_edge.cli.main import COMMANDS
from tests.conftest import SMALL, published_args, random_net, save_published, variant


def run(*arguments: object) -> Result:
    return CliRunner().invoke(export, [str(argument) for argument in arguments])


def assert_refused(result: Result, *words: str) -> None:
    """Exit code 2, one or two lines on stderr that say why, nothing on stdout."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("error: ") and len(lines) <= 2
    for word in words:
        assert word in result.stderr


def test_says_what_was_written_and_proven(checkpoint: Path) -> None:
    result = run(checkpoint)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.count("-[✓]") == 12
    assert "step.onnx" in result.stdout and "proven, against the published definition, in" in result.stdout


def test_json(checkpoint: Path, tmp_path: Path) -> None:
    result = run(checkpoint, "-o", tmp_path / "out", "--json", "--pool", "window:5")
    summary = json.loads(result.stdout)
    assert summary["passed"] and summary["pool"] == "window:5"
    assert set(summary["files"]) == {
        "manifest.json", "full.onnx", "step.onnx", "parity.json", "report.html", "card.md", "golden.npz",
        "native/weights.safetensors",
    }  # fmt: skip


def test_a_failed_proof_is_exit_code_1(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multires_edge.format.comparison import LIMITS, Limit

    monkeypatch.setitem(LIMITS, "fp32", Limit(1e-12))
    result = run(checkpoint, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "-[x]" in result.stdout and "NOT PROVEN" in result.stdout
    assert (tmp_path / "out" / "manifest.json").exists()


class TestRefusals:
    def test_no_such_file(self, tmp_path: Path) -> None:
        assert_refused(run(tmp_path / "none.pth"), "no such file")

    def test_an_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "ckpt.pth").touch()
        assert_refused(run(tmp_path / "ckpt.pth"), "empty")

    def test_another_network(self, tmp_path: Path) -> None:
        torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "ckpt.pth")
        assert_refused(run(tmp_path / "ckpt.pth"), "not a complete MultiresNet checkpoint")

    def test_uniform_without_depth(self, tmp_path: Path) -> None:
        net = random_net(variant(tree_select="uniform", memory_size=6))
        path = save_published(net, tmp_path, "--tree_select=uniform\n--d_mem=6")
        assert_refused(run(path), "--depth N")
        assert run(path, "--depth", 3).exit_code == 0

    def test_an_existing_folder(self, checkpoint: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").touch()
        assert_refused(run(checkpoint, "-o", tmp_path / "out"), "exists already", "--force")
        assert_refused(run(checkpoint, "-o", tmp_path / "out", "--force"), "is not a bundle")
        assert (tmp_path / "out" / "mine").exists()

    def test_a_window_of_nothing(self, checkpoint: Path) -> None:
        assert_refused(run(checkpoint, "--pool", "window:0"), "window:N for the last N, 1 to")

    def test_an_unknown_target(self, checkpoint: Path) -> None:
        assert_refused(run(checkpoint, "--target", "cpuu"), "did you mean cpu")

    def test_data_of_another_shape(self, checkpoint: Path, tmp_path: Path) -> None:
        assert_refused(run(checkpoint, "--verify-data", tmp_path / "none.npz"), "no such file")
        assert not checkpoint.with_suffix(".bundle").exists()

    def test_debug_shows_the_traceback(self, tmp_path: Path) -> None:
        result = run(tmp_path / "none.pth", "--debug")
        assert result.exit_code == 2
        assert result.stderr.startswith("Traceback") and "CheckpointError" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("error: ")


def test_warnings_are_lines_on_stderr(tmp_path: Path) -> None:
    path = save_published(random_net(SMALL), tmp_path, published_args(SMALL) + "\n--wandb")
    result = run(path, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["passed"]
    assert result.stderr.startswith("warning: ") and "--wandb" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_help_imports_nothing_heavy(command: str) -> None:
    """What makes --help instant, whatever the machine."""
    code = (
        "import sys\n"
        "from multires_edge.cli.main import main\n"
        "try:\n"
        f"    main(['{command}', '--help'])\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0\n"
        "heavy = {'numpy', 'torch', 'onnx', 'onnxruntime', 'matplotlib', 'jinja2', 'PIL'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Usage:" in result.stdout
