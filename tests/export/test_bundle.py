"""Exporting: trained networks to bundles that a stranger can run from the manifest alone."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from multires_edge.base.errors import CardError, ConfigError, OutputError
from multires_edge.base.palette import css
from multires_edge.export import ParityError, export_bundle
from multires_edge.export.bundle import ExportResult
from multires_edge.format.fields import plain
from multires_edge.models.inference import Overrides
from multires_edge.models.network import MultiresNet
from multires_edge.runtime import Bundle
from tests.conftest import (
    DEMO,
    RECORDED_NAMES,
    SMALL,
    random_net,
    recorded,
    save_published,
    variant,
    within_limit,
)
from tests.export.graphs.harness import session
from tests.runtime.conftest import twelve_leads

__all__ = ["twelve_leads"]


class Stranger:
    """Runs a bundle with nothing but json, numpy and onnxruntime."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = json.loads((folder / "manifest.json").read_text())

    def full(self, **feeds: NDArray[Any]) -> Any:
        graph = self.manifest["graphs"]["full"]["fp32"]
        assert [tensor["name"] for tensor in graph["inputs"]] == list(feeds)
        runner = session((self.folder / graph["file"]).read_bytes())
        return runner.run([graph["outputs"][0]["name"]], feeds)[0]

    def steps(self, inputs: NDArray[Any]) -> NDArray[Any]:
        graph = self.manifest["graphs"]["step"]["fp32"]
        runner = session((self.folder / graph["file"]).read_bytes())
        names = [graph["outputs"][0]["name"], *(state["output"] for state in graph["states"])]
        states = {
            state["input"]: np.zeros([len(inputs), *state["shape"][1:]], state["dtype"])
            for state in graph["states"]
        }
        outputs = []
        for t in range(inputs.shape[-1]):
            feeds = {graph["inputs"][0]["name"]: np.ascontiguousarray(inputs[..., t]), **states}
            y, *new = runner.run(names, feeds)
            states = dict(zip(states, new, strict=True))
            outputs.append(y)
        return np.stack(outputs, axis=-1)


@pytest.fixture(scope="module")
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    path, _ = recorded(request.param)
    return export_bundle(path, tmp_path_factory.mktemp("trained") / request.param)


@pytest.mark.slow
@pytest.mark.parametrize("trained", RECORDED_NAMES, indirect=True)
def test_trained_networks_give_their_recorded_outputs(trained: ExportResult) -> None:
    _, reference = recorded(trained.path.name)
    stranger = Stranger(trained.path)
    x, y = reference["x"], reference["y"]
    if "lengths" in reference:
        assert within_limit(stranger.full(tokens=x, lengths=reference["lengths"]), y)
        steps = stranger.steps(x)
        ends = steps[np.arange(len(x)), :, reference["lengths"] - 1]
        assert within_limit(ends, y)
    elif trained.manifest.model.task == "autoregressive":
        assert within_limit(stranger.full(x=x), y)
        fed = np.concatenate([np.zeros_like(x[..., :1]), x[..., :-1]], axis=-1)
        assert within_limit(stranger.steps(fed), y)
    else:
        assert within_limit(stranger.full(x=x), y)
        assert within_limit(stranger.steps(x)[..., -1], y)


class TestOtherCheckpoints:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("net", "overrides"),
        [
            (random_net(variant(norm="batch", kernel_size=4, depth=5)), None),
            (
                random_net(variant(tree_select="uniform", memory_size=20, kernel_size=4, depth=6)),
                Overrides(depth=6),
            ),
            (random_net(variant(kernel_size=8, depth=4)), None),
            (random_net(variant(encoder="token", task="autoregressive")), None),
            (random_net(variant(depth=1, n_layers=1)), None),
        ],
        ids=["batchnorm-k4", "uniform-k4", "db4", "token-autoregressive", "smallest"],
    )
    def test_are_proven(self, net: MultiresNet, overrides: Overrides | None, tmp_path: Path) -> None:
        result = export_bundle(save_published(net, tmp_path), overrides=overrides)
        assert result.passed
        assert result.path == tmp_path / "ckpt.bundle"

    @pytest.mark.slow
    @pytest.mark.parametrize("target", ["cpu", "portable"])
    @pytest.mark.parametrize("pool", ["cumulative", "window:9"])
    def test_every_target_and_pooling(self, checkpoint: Path, tmp_path: Path, target: str, pool: str) -> None:
        result = export_bundle(checkpoint, tmp_path / "out", target=target, pool=pool)
        assert result.passed
        assert (result.manifest.target, str(result.manifest.pooling)) == (target, pool)

    def test_lengths_on_request(self, checkpoint: Path, tmp_path: Path) -> None:
        result = export_bundle(checkpoint, tmp_path / "out", lengths=True)
        x, lengths = np.ones((2, 2, 9), np.float32), np.array([4, 9])
        y = Stranger(result.path).full(x=x, lengths=lengths)
        assert not np.allclose(y[0], y[1])

    def test_lengths_need_pooling(self, tmp_path: Path) -> None:
        path = save_published(random_net(variant(task="autoregressive")), tmp_path)
        with pytest.raises(ConfigError, match="--lengths is for networks that pool"):
            export_bundle(path, lengths=True)


class TestManifest:
    def test_states_what_is_in_the_bundle(self, exported: Path) -> None:
        manifest = json.loads((exported / "manifest.json").read_text())
        assert (manifest["format"], manifest["version"]) == ("multires-bundle", 1)
        assert manifest["model"] == plain(SMALL)
        for kind in ("full", "step"):
            graph = manifest["graphs"][kind]["fp32"]
            data = (exported / graph["file"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == graph["sha256"]
            model = onnx.load_from_string(data)
            assert model.opset_import[0].version == graph["opset"]
            declared = [t["name"] for t in graph["inputs"]]
            declared += [s["input"] for s in graph.get("states", [])]
            assert sorted(declared) == sorted(value.name for value in model.graph.input)
        assert manifest["preprocessing"] is None and manifest["labels"] is None
        assert manifest["tools"]["torch"] == torch.__version__.split("+")[0] or manifest["tools"]["torch"]

    @pytest.mark.slow
    def test_the_card_goes_in(self, tmp_path: Path) -> None:
        result = export_bundle(DEMO / "ckpt.pth", tmp_path / "out", card=DEMO / "card.json")
        assert result.manifest.labels == ("CD", "HYP", "MI", "NORM", "STTC")
        assert result.manifest.preprocessing is not None
        assert result.manifest.preprocessing.sampling_rate == 100
        assert result.manifest.card is not None and result.manifest.card.output == "sigmoid"

    def test_a_card_of_another_network(self, checkpoint: Path, tmp_path: Path) -> None:
        with pytest.raises(CardError, match="5 labels for a network with 3 outputs"):
            export_bundle(checkpoint, tmp_path / "out", card=DEMO / "card.json")
        assert not (tmp_path / "out").exists()

    def test_the_same_checkpoint_gives_the_same_graphs(self, checkpoint: Path, tmp_path: Path) -> None:
        first, second = (export_bundle(checkpoint, tmp_path / name) for name in "ab")
        assert first.manifest.graphs == second.manifest.graphs


class TestProof:
    def test_names_every_check_with_its_error_and_limit(self, exported: Path) -> None:
        parity = json.loads((exported / "parity.json").read_text())
        assert parity["passed"] and parity["covers_receptive_field"]
        names = [check["name"] for check in parity["checks"]]
        for expected in ("every prefix", "rows restarted", "saved and loaded", "states copied", "native"):
            assert any(expected in name for name in names)
        for check in parity["checks"]:
            assert 0 < check["error"] <= check["limit"] == 1e-5
            assert check["values"] > 0

    @pytest.mark.slow
    def test_real_data_takes_part(self, tmp_path: Path) -> None:
        result = export_bundle(
            DEMO / "ckpt.pth",
            tmp_path / "out",
            card=DEMO / "card.json",
            verify_data=DEMO / "records.npz",
        )
        names = [check.name for check in result.proof.checks]
        assert "full graph, real data" in names and "step graph, real data" in names
        assert "records.npz" in (tmp_path / "out" / "parity.json").read_text()

    @pytest.mark.parametrize("where", ["lowpass", "tap_weights", "head"])
    def test_a_wrong_graph_is_found_out_and_written_as_such(
        self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        import multires_edge.export.bundle as module
        from multires_edge.export.folding import FoldedLayer, FoldedNetwork, fold

        def slightly_wrong(net: MultiresNet) -> FoldedNetwork:
            folded = fold(net)
            if where == "head":
                folded.head.bias[1] += 1e-4
            elif where == "lowpass":
                folded.layers[0].lowpass[0][1, 3] += 1e-2
            return folded

        monkeypatch.setattr(module, "fold", slightly_wrong)
        if where == "tap_weights":
            right = FoldedLayer.tap_weights

            def swapped(layer: FoldedLayer) -> Any:
                x_weight, taps = right(layer)
                return x_weight, [taps[1], taps[0], *taps[2:]]

            monkeypatch.setattr(FoldedLayer, "tap_weights", swapped)
        with pytest.raises(ParityError, match="parity failed") as failure:
            export_bundle(checkpoint, tmp_path / "out")
        assert not failure.value.result.passed
        assert json.loads((tmp_path / "out" / "parity.json").read_text())["passed"] is False
        assert "Parity FAILED" in (tmp_path / "out" / "report.html").read_text()


class TestReport:
    def test_is_whole_and_needs_no_network(self, exported: Path) -> None:
        page = (exported / "report.html").read_text()
        assert "all 12 checks passed" in page
        assert page.count("<svg") == 2 and page.rstrip().endswith("</html>")
        assert "<script" not in page and "<link" not in page
        links = set(re.findall(r'(?:src|href|data)="([^"]*)"', page))
        assert {link for link in links if not link.startswith("#")} == {"devices/index.html"}
        assert links - {"devices/index.html"} <= {f"#{name}" for name in re.findall(r'id="([^"]+)"', page)}

    def test_colours_are_the_palettes(self, exported: Path) -> None:
        """On light and dark screens, and on paper."""
        page = (exported / "report.html").read_text()
        assert css() in page and "@media print" in page
        colours = re.findall(r"#[0-9a-f]{6}\b", page.replace(css(), ""))
        assert len(colours) == len(re.findall(r"var\(--[a-z0-9-]+,#[0-9a-f]{6}\)", page)) > 0

    @pytest.mark.slow
    def test_says_what_labels_and_steps_mean(self, twelve_leads: Bundle) -> None:
        page = (twelve_leads.path / "report.html").read_text()
        assert "<tr><th>MI</th><td>Myocardial infarction</td></tr>" in page
        assert "depends on the last 4,093 steps, 40.9 s" in page and "label_descriptions" not in page

    @pytest.mark.slow
    def test_names_from_files_are_escaped(self, tmp_path: Path) -> None:
        card = json.loads((DEMO / "card.json").read_text()) | {"name": "<script>alert(1)</script>"}
        (tmp_path / "card.json").write_text(json.dumps(card))
        result = export_bundle(DEMO / "ckpt.pth", tmp_path / "out", card=tmp_path / "card.json")
        assert "<script" not in (result.path / "report.html").read_text()


class TestRefusals:
    def test_an_existing_folder(self, checkpoint: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        with pytest.raises(OutputError, match="exists already; give --force"):
            export_bundle(checkpoint, tmp_path / "out")

    def test_an_unknown_precision(self, checkpoint: Path) -> None:
        with pytest.raises(ConfigError, match="precision 'fp8'"):
            export_bundle(checkpoint, precisions=("fp32", "fp8"))

    def test_queues_that_no_tensor_holds(self, tmp_path: Path) -> None:
        net = random_net(variant(tree_select="uniform", memory_size=9, kernel_size=8))
        path = save_published(net, tmp_path, "--tree_select=uniform\n--d_mem=9\n--depth=20")
        wide = random_net(variant(d_model=64, tree_select="uniform", memory_size=9, kernel_size=8))
        with pytest.raises(ConfigError, match="a tensor holds at most"):
            export_bundle(
                save_published(wide, tmp_path / "wide", "--tree_select=uniform\n--depth=20"),
                tmp_path / "out",
            )
        assert path.exists() and not (tmp_path / "out").exists()
