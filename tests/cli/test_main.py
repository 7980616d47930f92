"""``multires-edge verify``, ``inspect`` and ``doctor`` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import numpy_helper

from multires_edge.base.files import sha256_of
from multires_edge.cli.main import main
from multires_edge.format.fields import digest_of
from tests.conftest import SMALL, random_net, save_published


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


class TestVerify:
    def test_a_whole_bundle(self, exported: Path) -> None:
        result = run("verify", exported)
        assert result.exit_code == 0, result.output
        assert result.stdout.count("-[✓]") == 7
        assert "verified" in result.stdout

    def test_against_its_checkpoint(self, exported: Path) -> None:
        checkpoint = exported.parent / "run" / "ckpt.pth"
        result = run("verify", exported, "--checkpoint", checkpoint, "--json")
        entry = json.loads(result.stdout)
        assert entry["passed"] and len(entry["checks"]) == 7 + 12

    def test_against_another_checkpoint(self, exported: Path, tmp_path: Path) -> None:
        other = save_published(random_net(SMALL, seed=9), tmp_path)
        result = run("verify", exported, "--checkpoint", other)
        assert result.exit_code == 2
        assert "exported from another checkpoint" in result.stderr

    @pytest.mark.parametrize(
        ("name", "weights"),
        [("full.onnx", "layers.0/mixing/weight"), ("step.onnx", "layers.0/glu/value/weight")],
    )
    def test_a_changed_weight_under_a_mended_digest(self, bundle: Path, name: str, weights: str) -> None:
        """Digests tell of accidents; the recorded outputs tell of a graph that is simply wrong."""
        model = onnx.load(bundle / name)
        tensor = next(t for t in model.graph.initializer if t.name == weights)
        weight = numpy_helper.to_array(tensor).copy()
        weight.flat[0] += 0.01
        tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
        onnx.save(model, bundle / name)
        manifest = json.loads((bundle / "manifest.json").read_text())
        manifest["graphs"][name.split(".", maxsplit=1)[0]]["fp32"]["sha256"] = sha256_of(bundle / name)
        manifest["sha256"] = digest_of(manifest)
        (bundle / "manifest.json").write_text(json.dumps(manifest))
        result = run("verify", bundle)
        assert result.exit_code == 1
        assert "-[x]" in result.stdout and "FAILED" in result.stdout

    def test_an_old_onnxruntime(self, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The native engine is proven; the graphs, which cannot load, are named."""
        monkeypatch.setattr("multires_edge.runtime.backends.onnxruntime.release", lambda: (1, 20))
        result = run("verify", exported)
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        assert [line.startswith("-[✓] native engine") for line in lines[1:4]] == [True] * 3
        assert lines[4].startswith("-[ ] full.onnx, step.onnx: not checked (onnxruntime 1.20 is too old")
        assert lines[5:] == ["verified, except what was not checked"]
        entry = json.loads(run("verify", exported, "--json").stdout)
        assert list(entry["not_checked"]) == ["full.onnx", "step.onnx"]

    def test_without_onnxruntime(self, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("multires_edge.runtime.backends.onnxruntime.find_spec", lambda _: None)
        result = run("verify", exported)
        assert result.exit_code == 0, result.output
        assert result.stdout.count("-[✓] native engine") == result.stdout.count("-[✓]") == 3
        assert "full.onnx, step.onnx: not checked (pip install" in result.stdout

    def test_without_anything_that_runs_it(self, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for backend in ("native", "onnxruntime"):
            monkeypatch.setattr(f"multires_edge.runtime.backends.{backend}.find_spec", lambda _: None)
        result = run("verify", exported)
        assert result.exit_code == 2 and result.stdout == ""
        assert "nothing was verified" in result.stderr and "C++ compiler" in result.stderr

    def test_a_changed_byte(self, bundle: Path) -> None:
        with (bundle / "step.onnx").open("ab") as file:
            file.write(b"!")
        result = run("verify", bundle)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: ") and "step.onnx: changed since" in result.stderr


class TestInspect:
    def test_for_a_person(self, exported: Path) -> None:
        result = run("inspect", exported)
        assert result.exit_code == 0
        for word in ("classification", "queue_02", "(batch, 1, 5, 16)", "in place", "proven"):
            assert word in result.stdout

    def test_as_json(self, exported: Path) -> None:
        entry = json.loads(run("inspect", exported, "--json").stdout)
        assert entry["manifest"] == json.loads((exported / "manifest.json").read_text())
        assert entry["sizes"]["step.onnx"] == (exported / "step.onnx").stat().st_size

    def test_nothing_there(self, tmp_path: Path) -> None:
        result = run("inspect", tmp_path / "none")
        assert result.exit_code == 2
        assert "no such folder" in result.stderr


class TestDoctor:
    def test_knows_this_machine(self) -> None:
        entry = json.loads(run("doctor", "--json").stdout)
        assert entry["packages"]["numpy"] == np.__version__
        assert "CPUExecutionProvider" in entry["providers"]
        assert entry["capabilities"]["run the ONNX graphs on the CPU"] is None
        assert entry["cpu"]["cores"] >= 1

    def test_says_what_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from multires_edge.cli.commands import doctor

        monkeypatch.setattr(doctor, "_version", lambda _: None)
        monkeypatch.setattr("multires_edge.runtime.backends.onnxruntime.find_spec", lambda _: None)
        monkeypatch.setattr("multires_edge.runtime.backends.device.driver.load_library", lambda: None)
        lines = run("doctor").stdout.splitlines()
        assert any("-[x] export checkpoints" in line and "[export]" in line for line in lines)
        assert any("-[x] run the ONNX graphs on the CPU" in line for line in lines)
        assert any("no CUDA driver was found" in line for line in lines)


class TestCmakeDir:
    def test_is_what_find_package_wants(self) -> None:
        folder = Path(run("cmake-dir").stdout.rstrip("\n"))
        assert (folder / "multires-config.cmake").is_file()
        assert (folder / "../../libmultires.a").is_file()
        assert (folder / "../../pkgconfig/multires.pc").is_file()
        assert (folder / "../../../include/multires.hpp").is_file()

    def test_without_the_engine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("multires_edge.cli.commands.cmake_dir.find_spec", lambda _: None)
        result = run("cmake-dir")
        assert result.exit_code == 2
        assert "not part of this installation" in result.stderr


def test_a_missing_extra_is_named(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "torch" else found(name, *a)
    )
    result = run("export", checkpoint)
    assert result.exit_code == 2
    assert "[export]'" in result.stderr


def test_version() -> None:
    assert "multires-edge" in run("--version").stdout
