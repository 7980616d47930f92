"""``multires-edge build`` and ``targets`` as a user types them."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from multires_edge.base.errors import BackendError
from multires_edge.cli.main import main
from multires_edge.format.targets import TARGETS


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def build(bundle: Path, *arguments: object) -> Result:
    return run("build", bundle, "--target", "rtx", "--compute-capability", "8.6", *arguments)


needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="needs the rtx extra")


@needs_rtx
class TestBuild:
    def test_every_graph(self, bundle: Path) -> None:
        result = build(bundle)
        assert result.exit_code == 0, result.output
        assert "full.fp32.rtx.engine" in result.stdout and "step.fp32.rtx.engine" in result.stdout
        assert "3 in place" in result.stdout
        warnings = result.stderr.splitlines()
        assert len(warnings) == 1 and "the runtime binds int64 memory" in warnings[0]
        verified = run("verify", bundle)
        assert verified.exit_code == 0 and "verified" in verified.stdout
        inspected = run("inspect", bundle).stdout
        assert "engine: engines/step.fp32.rtx.engine" in inspected and ", sm 8.6" in inspected
        assert len(json.loads(run("inspect", bundle, "--json").stdout)["engines"]) == 2

    def test_one_graph_as_json(self, bundle: Path) -> None:
        result = build(bundle, "--graph", "full", "--batch", "1:2:4", "--time", "8:16:32", "--json")
        (entry,) = json.loads(result.stdout)["engines"]
        assert entry["profile"] == {"batch": [1, 2, 4], "time": [8, 16, 32]}
        assert entry["graph"]["kind"] == "full" and entry["compute_capabilities"] == ["8.6"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--graph", "stp"], "unknown graph 'stp', expected one of full, step"),
            (["--precision", "fp16"], "no step graph in 'fp16'; it has: fp32"),
            (["--batch", "4:1:8"], "1 <= MIN <= OPT <= MAX"),
            (
                ["--graph", "step", "--time", "9"],
                "--time applies to no graph that is built; give --graph full",
            ),
            (["--graph", "full", "--streams", "9"], "--streams applies to no graph"),
            (["--graph", "step,"], "'step,' has an empty name"),
            (["--compute-capability", "5.0"], "'5.0' is unknown to target rtx"),
        ],
    )
    def test_refusals_before_anything_is_built(
        self, bundle: Path, arguments: list[str], message: str
    ) -> None:
        result = build(bundle, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in result.stderr and len(result.stderr.splitlines()) <= 2
        assert not (bundle / "engines").exists()

    def test_a_failure_stops_no_other_graph(self, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from multires_edge.runtime.engine_builder.build import Builder, Plan

        made = Builder.build

        def fails_at_step(self: Builder, plan: Plan, *rest: Any) -> Any:
            if plan.kind == "step":
                raise BackendError("no more")
            return made(self, plan, *rest)

        monkeypatch.setattr(Builder, "build", fails_at_step)
        result = build(bundle)
        assert result.exit_code == 2 and result.stderr.splitlines()[-1] == "error: no more"
        assert "full.fp32.rtx.engine" in result.stdout and "step" not in result.stdout

    def test_an_engine_that_is_there_stops_all(self, bundle: Path) -> None:
        assert build(bundle, "--graph", "step").exit_code == 0
        result = build(bundle)
        assert result.exit_code == 2 and "give --force" in result.stderr
        assert not (bundle / "engines" / "full.fp32.rtx.engine").exists()
        assert build(bundle, "--graph", "step", "--force").exit_code == 0

    def test_no_bundle(self, tmp_path: Path) -> None:
        result = build(tmp_path / "none")
        assert result.exit_code == 2 and "no such folder" in result.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("jetpak7", "did you mean jetpack7?"),
        ("RTX", "did you mean rtx?"),
        ("portable", "needs no engine"),
        ("jetpack7", "no CUDA driver was found"),
    ],
)
def test_a_target_that_cannot_be(
    bundle: Path, target: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multires_edge.runtime.backends.device.driver.load_library", lambda: None)
    result = run("build", bundle, "--target", target)
    assert result.exit_code == 2 and message in result.stderr
    assert "Traceback" not in result.stderr and len(result.stderr.splitlines()) == 1


def test_without_tensorrt_rtx(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    result = run("build", bundle, "--target", "rtx")
    assert result.exit_code == 2 and "[rtx]'" in result.stderr


class TestTargets:
    def test_for_people(self) -> None:
        result = run("targets")
        assert result.exit_code == 0
        for name, target in TARGETS.items():
            assert f"\n{name}: {target.description}" in result.stdout

    def test_for_programs(self) -> None:
        entry = json.loads(run("targets", "--json").stdout)
        rows = {row["name"]: row for row in entry["targets"]}
        assert list(rows) == list(TARGETS)
        assert rows["jetpack7"]["forms"] == ["opset24", "opset17"]
        assert rows["jetpack6"]["versions"] == ["10.3"]
        assert all(row["sources"] for row in rows.values())
