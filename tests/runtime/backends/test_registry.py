"""The registry: a backend of another package is one module and one line, and works in every command."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from multires_edge.base.errors import BackendError
from multires_edge.cli.main import main
from multires_edge.export.parity import prove
from multires_edge.runtime import Bundle, evaluate, open_bundle
from multires_edge.runtime.backends.registry import (
    ENTRY_POINTS,
    backend_named,
    backend_names,
)
from multires_edge.runtime.evaluation.dataset import Dataset
from multires_edge.runtime.verify import verify_bundle
from tests.conftest import ROOT, SMALL, random_inputs, random_net, within_limit
from tests.runtime.backends.reference_backend import ReferenceBackend

X = random_inputs(SMALL, 2, 40)
LINE = "reference = tests.runtime.backends.reference_backend:ReferenceBackend"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """What pip leaves of another package that registers a backend, for this process and those it starts."""
    info = folder / "site" / "another_package-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: another-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{line}\n")
    monkeypatch.syspath_prepend(str(info.parent))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(info.parent), str(ROOT)]))


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, LINE)


@pytest.fixture
def opened(exported: Path) -> Bundle:
    return open_bundle(exported)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def labelled(inputs: np.ndarray) -> Dataset:
    return Dataset(Path("data.npz"), inputs, labels=np.arange(len(inputs)) % 3)


@pytest.mark.usefixtures("added")
class TestABackendOfAnotherPackage:
    def test_streams(self, opened: Bundle) -> None:
        stream, native = opened.stream(2, backend="reference"), opened.stream(2, backend="native")
        for part in (X[..., :15], X[..., 15:]):
            assert within_limit(stream.run(part), native.run(part))
            stream.reset(rows=[1])
            native.reset(rows=[1])
        native.load_state(stream.save_state())

    def test_whole_sequences(self, opened: Bundle) -> None:
        assert within_limit(opened.full(backend="reference")(X), opened.full()(X))

    def test_is_verified(self, opened: Bundle) -> None:
        checks = {check.name: check.passed for check in verify_bundle(opened)}
        assert checks["reference evaluator, every prefix"] and all(checks.values())
        result = run("verify", opened.path)
        assert result.exit_code == 0 and "-[✓] reference evaluator, resumed" in result.stdout

    def test_is_proven_with_an_export(self, opened: Bundle) -> None:
        proof, _ = prove(random_net(SMALL), opened)
        assert proof.passed
        assert "reference evaluator, rows restarted" in {check.name for check in proof.checks}

    @pytest.mark.parametrize("graph", ["full", "step"])
    def test_is_evaluated(self, opened: Bundle, graph: str) -> None:
        data = labelled(X)
        mine = evaluate(opened, data, graph=graph, backend="reference")
        assert mine.value == evaluate(opened, data, graph=graph, backend="native").value

    def test_from_the_command_line(self, opened: Bundle, tmp_path: Path) -> None:
        np.savez(tmp_path / "data.npz", x=X, labels=np.array([0, 1]))
        data = ("--data", tmp_path / "data.npz", "--graph", "step")
        result = run("evaluate", opened.path, *data, "--backend", "reference", "--json")
        assert result.exit_code == 0 and json.loads(result.stdout)["backend"] == "reference"
        assert "-[✓] run the ONNX graphs in numpy" in run("doctor").stdout
        assert "[auto|native|onnxruntime|cuda|tensorrt|reference]" in run("stream", "--help").stdout
        assert "[native|onnxruntime|cuda|tensorrt|reference]" in run("bench", "--help").stdout

    def test_is_timed(self, opened: Bundle) -> None:
        result = run("bench", opened.path, "--backend", "reference", "--quick", "--steps", 5, "--json")
        assert result.exit_code == 0, result.stderr
        (entry,) = json.loads(result.stdout)["results"]
        assert entry["backend"] == "reference" and entry["step"]["cpp"] is None
        assert entry["full"]["p50"] > 0 and entry["load"]["import_seconds"] > 0

    def test_refuses_what_it_does_not_take(self, opened: Bundle) -> None:
        with pytest.raises(BackendError, match="reference backend does not support threads: it runs on one"):
            opened.stream(backend="reference", threads=2)
        with pytest.raises(
            BackendError, match=r"reference backend cannot change .*backend native( or cuda)?$"
        ):
            opened.stream(backend="reference", pool="window:5")

    def test_is_listed_for_a_wrong_name(self, opened: Bundle) -> None:
        names = "expected auto or native, onnxruntime, cuda, tensorrt, reference"
        with pytest.raises(BackendError, match=f"unknown backend 'abacus'; {names}"):
            opened.stream(backend="abacus")

    def test_is_completed(self) -> None:
        completion = ShellComplete(main, {}, "multires-edge", "_COMPLETE")
        (item,) = completion.get_completions(["stream", "--backend"], "re")
        assert item.value == "reference"


class TestRegistration:
    def test_a_backend_without_one(self, opened: Bundle) -> None:
        stream = opened.stream(2, backend=ReferenceBackend())
        assert within_limit(stream.run(X), opened.stream(2).run(X))
        assert within_limit(opened.full(backend=ReferenceBackend())(X), opened.full()(X))

    @pytest.mark.parametrize(
        "where", ["tests.runtime.backends.reference_backend:Abacus", "no_such_module:Backend"]
    )
    def test_a_class_that_is_not_there(
        self, where: str, opened: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install(tmp_path, monkeypatch, f"broken = {where}")
        with pytest.raises(BackendError, match=f"backend 'broken': {where} cannot be imported"):
            opened.stream(backend="broken")

    def test_the_own_backends_stay(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        install(tmp_path, monkeypatch, LINE.replace("reference =", "native ="))
        assert backend_names() == ["native", "onnxruntime", "cuda", "tensorrt"]
        assert backend_named("native").ability == "stream on the native engine"

    def test_names_are_those_of_the_classes(self) -> None:
        assert [backend_named(name).name for name in backend_names()] == backend_names()
