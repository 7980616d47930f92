"""One bundle for several targets: what is written, proven, verified, and picked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from multires_edge.base.errors import BundleError
from multires_edge.base.files import sha256_of
from multires_edge.export import ExportResult, ParityError, export_bundle
from multires_edge.format.fields import digest_of
from multires_edge.runtime import open_bundle
from multires_edge.runtime.verify import verify_bundle
from tests.conftest import SMALL, random_net, save_published


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    folder = tmp_path_factory.mktemp("several")
    checkpoint = save_published(random_net(SMALL), folder / "run")
    return export_bundle(
        checkpoint, folder / "out", precisions=("fp32", "fp16"), target="rtx,jetpack6,jetpack7"
    )


@pytest.fixture
def copied(result: ExportResult, tmp_path: Path) -> Path:
    return Path(shutil.copytree(result.path, tmp_path / "several.bundle"))


def rewrite_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    entry = json.loads(path.read_text()) | changes
    for key in [key for key, value in changes.items() if value is None]:
        del entry[key]
    path.write_text(json.dumps(entry | {"sha256": digest_of(entry)}))


class TestWhatIsWritten:
    def test_the_first_target_has_the_plain_names(self, result: ExportResult) -> None:
        graphs = {path.name for path in result.path.glob("*.onnx")}
        names = {"full", "step", "taps", "full.fp16", "step.fp16", "taps.fp16"}
        assert graphs == {f"{name}.onnx" for name in names} | {f"{name}.opset17.onnx" for name in names}
        assert result.manifest.graph("step", "fp32").opset == 24

    def test_the_manifest_says_which_target_takes_what(self, result: ExportResult) -> None:
        entry = json.loads((result.path / "manifest.json").read_text())
        assert (entry["target"], entry["form"]) == ("rtx", "opset24")
        assert entry["targets"] == {
            "rtx": ["opset24"],
            "jetpack6": ["opset17"],
            "jetpack7": ["opset24", "opset17"],
        }
        further = entry["forms"]["opset17"]["step"]["fp16"]
        assert (further["file"], further["opset"]) == ("step.fp16.opset17.onnx", 17)
        assert further["states"] == entry["graphs"]["step"]["fp16"]["states"]
        assert sha256_of(result.path / further["file"]) == further["sha256"]

    def test_a_graph_says_whose_it_is(self, result: ExportResult) -> None:
        def metadata(name: str) -> dict[str, str]:
            return {prop.key: prop.value for prop in onnx.load(result.path / name).metadata_props}

        assert metadata("step.onnx")["target"] == "rtx, jetpack7"
        assert metadata("step.fp16.opset17.onnx")["target"] == "jetpack6, jetpack7"

    def test_one_target_writes_no_more_than_before(self, exported: Path) -> None:
        manifest = open_bundle(exported).manifest
        assert manifest.forms == {} and manifest.targets == {manifest.target: (manifest.form,)}


class TestWhatIsProven:
    def test_every_graph(self, result: ExportResult) -> None:
        names = [check.name for check in result.proof.checks]
        first = [name for name in names if not name.startswith("opset17, ") and "native engine" not in name]
        assert result.passed
        assert [name for name in names if name.startswith("opset17, ")] == [f"opset17, {n}" for n in first]

    def test_checks_are_the_same_beside_any_other_target(self, result: ExportResult, tmp_path: Path) -> None:
        alone = export_bundle(save_published(random_net(SMALL), tmp_path), target="rtx").proof.checks
        beside = {check.name: check.error for check in result.proof.checks}
        assert {check.name: check.error for check in alone}.items() <= beside.items()

    def test_a_further_form_that_is_wrong_fails(
        self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from multires_edge.export.graph_builder import GraphBuilder

        gelu = GraphBuilder.gelu

        def wrong(self: GraphBuilder, value: str, name: str) -> str:
            return gelu(self, value, name) if self.form.gelu_operator else value

        monkeypatch.setattr(GraphBuilder, "gelu", wrong)
        with pytest.raises(ParityError) as raised:
            export_bundle(checkpoint, tmp_path / "out", target="cpu,portable")
        failed = [check.name for check in raised.value.result.proof.checks if not check.passed]
        assert failed and all(name.startswith("opset17, ") for name in failed)

    def test_the_recorded_reference_covers_them(self, result: ExportResult) -> None:
        checks = verify_bundle(open_bundle(result.path))
        further = [check for check in checks if check.name.startswith("opset17, ")]
        assert all(check.passed for check in checks)
        # A full graph once, step and taps graphs three times.
        assert len(further) == len(result.manifest.graphs["step"]) * (1 + 3 + 3)

    def test_the_recorded_reference_finds_a_wrong_one(self, copied: Path) -> None:
        model = onnx.load(copied / "step.opset17.onnx")
        weight = next(t for t in model.graph.initializer if t.name == "head/bias")
        array = onnx.numpy_helper.to_array(weight) + np.float32(1)
        weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
        onnx.save(model, copied / "step.opset17.onnx")
        forms = json.loads((copied / "manifest.json").read_text())["forms"]
        forms["opset17"]["step"]["fp32"]["sha256"] = sha256_of(copied / "step.opset17.onnx")
        rewrite_manifest(copied, forms=forms)
        failed = {check.name for check in verify_bundle(open_bundle(copied)) if not check.passed}
        assert failed and all(name.startswith("opset17, step graph") for name in failed)


class TestOpening:
    def test_a_changed_further_graph_is_an_error(self, copied: Path) -> None:
        path = copied / "step.fp16.opset17.onnx"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(BundleError, match=r"step\.fp16\.opset17\.onnx: changed since"):
            open_bundle(copied)

    def test_a_form_by_name(self, result: ExportResult) -> None:
        bundle = open_bundle(result.path)
        older = bundle.in_form("opset17")
        assert older.manifest.graph("step", "fp32").file == "step.opset17.onnx"
        assert list(older.manifest.by_form) == ["opset17", "opset24"]
        assert older.manifest.digests() == bundle.manifest.digests()
        samples = np.random.default_rng(0).standard_normal((1, 2, 5), np.float32)
        y = bundle.stream(backend="onnxruntime").run(samples)
        np.testing.assert_allclose(older.stream(backend="onnxruntime").run(samples), y, rtol=0, atol=1e-6)

    def test_a_form_that_is_not_there(self, result: ExportResult) -> None:
        with pytest.raises(BundleError, match="no graphs of the form 'opset9'; it has: opset24, opset17"):
            open_bundle(result.path).in_form("opset9")

    def test_forms_that_are_no_forms(self, bundle: Path) -> None:
        rewrite_manifest(bundle, forms=["opset17"])
        with pytest.raises(BundleError, match=r"forms is \['opset17'\], expected an object"):
            open_bundle(bundle)
