"""The model card: everything that a stranger must know, whatever the texts in it are."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from multires_edge.base.errors import CardError
from multires_edge.base.files import sha256_of
from multires_edge.cli.main import main
from multires_edge.export import export_bundle
from multires_edge.export.model_card import escaped
from multires_edge.format.card import read_card
from multires_edge.format.fields import digest_of
from multires_edge.format.figures import EVALUATION, Figures, read_figures
from multires_edge.runtime import open_bundle
from tests.conftest import DEMO, SMALL, random_inputs, random_net, save_published
from tests.hostile import put

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
CARD: dict[str, Any] = {
    "preprocessing": {"sampling_rate": 100, "channels": ["I", "II"], "unit": "mV", "mean": 0, "std": 1},
    "labels": ["A", "B", "C"],
}
SECTIONS = ["Inputs", "Outputs", "Reach and delay", "Accuracy", "Precisions", "Proof and provenance"]
HOSTILE = (
    "<script>alert(1)</script> | a | b |\n\n# not a heading\n```\n[x](javascript:alert(1)) ![y](//z) *b* _i_ "
    "~~s~~ $x^2$ &lt; \\| <!-- \u2028 {{ 7*7 }} {% raw %}"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_published(random_net(SMALL), tmp_path_factory.mktemp("net"))


def exported(checkpoint: Path, folder: Path, card: dict[str, Any], **options: Any) -> Path:
    (folder / "card.json").write_text(json.dumps(card))
    return export_bundle(checkpoint, folder / "b", card=folder / "card.json", force=True, **options).path


@pytest.fixture(scope="module")
def measured(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The figures of a small network, by the command."""
    folder = tmp_path_factory.mktemp("measured")
    bundle = exported(checkpoint, folder, CARD)
    labels = np.tile([[0, 1, 0], [1, 0, 1]], (6, 1))
    np.savez(folder / "data.npz", x=random_inputs(SMALL, 12, 600), labels=labels)
    command = ["evaluate", bundle, "--data", folder / "data.npz", "--bootstrap", 30, "--field-conditions"]
    result = CliRunner().invoke(main, [*map(str, command), "--json"])
    assert result.exit_code == 0, result.output
    (folder / "evaluation.json").write_text(result.stdout)
    text = CliRunner().invoke(main, [*map(str, command)])
    assert "one lead lost, worst" in text.stdout and "under field conditions, fp32" in text.stdout
    return folder / "evaluation.json"


def headings(text: str) -> list[str]:
    tokens = MARKDOWN.parse(text)
    return [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]


def cells(text: str) -> list[str]:
    """The text of every cell, as a reader sees it. Raises if a cell is more than text and code."""
    found = []
    for token in MARKDOWN.parse(text):
        assert token.type != "html_block", token.content
        for child in token.children or []:
            assert child.type in ("text", "code_inline", "softbreak", "text_special"), child
        if token.type == "inline":
            found.append("".join(child.content for child in token.children or []))
    return found


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp", "Co", "Cn"]), max_size=60))
def test_any_text_is_that_text(text: str) -> None:
    shown = " ".join(text.split())
    for page in (f"# {escaped(text)}\n", f"| {escaped(text)} | z |\n| --- | --- |\n"):
        assert cells(page)[0].replace("\N{NO-BREAK SPACE}", " ") == shown


def test_long_texts_are_cut_and_controls_replaced() -> None:
    assert escaped("x" * 10**6) == "x" * 1999 + "…"
    assert escaped("a\x1b[31m\x00b") == "a\N{REPLACEMENT CHARACTER}\\[31m\N{REPLACEMENT CHARACTER}b"
    assert escaped("") == "" and escaped("train_ecg.py") == "train_ecg.py"


def test_without_a_card_or_figures_it_says_so(checkpoint: Path, tmp_path: Path) -> None:
    path = export_bundle(checkpoint, tmp_path / "b").path
    text = (path / "card.md").read_text()
    assert headings(text) == ["ckpt.pth", *SECTIONS]
    assert text.count("not stated in the card") == 5 and "Not measured." in text
    manifest = open_bundle(path).manifest
    assert manifest.source.sha256 in text and "12 checks against the published definition" in text
    assert manifest.files["card.md"] == sha256_of(path / "card.md")


def test_hostile_texts_break_nothing(checkpoint: Path, tmp_path: Path) -> None:
    texts = dict.fromkeys(("name", "description", "source", "license", "intended_use", "limits"), HOSTILE)
    card = CARD | texts | {"labels": ["A|B", "<b>", "`"], "label_descriptions": {"<b>": "x" * 5000}}
    text = (exported(checkpoint, tmp_path, card) / "card.md").read_text()
    found = cells(text)
    assert headings(text)[1:] == SECTIONS
    assert found.count(" ".join(HOSTILE.split())) == 6
    assert {"A|B", "<b>", "`"} <= set(found) and len(text) < 20_000


def test_figures_are_in_it(checkpoint: Path, measured: Path, tmp_path: Path) -> None:
    path = exported(checkpoint, tmp_path, CARD, evaluation=measured)
    figures = read_figures(measured)
    text = (path / "card.md").read_text()
    found = cells(text)
    assert headings(text) == ["ckpt.pth", *SECTIONS[:4], "Under field conditions", *SECTIONS[4:]]
    value = figures.precisions["fp32"].value
    assert value.interval is not None
    assert f"{value.value:.4f} ({value.interval[0]:.4f} to {value.interval[1]:.4f})" in found
    assert set(figures.conditions) <= set(found) and "these files" in found
    assert figures.conditions["clean"].difference.value == 0
    assert figures.positives == {"A": 6, "B": 6, "C": 6}
    assert EVALUATION.read(path / "evaluation.json") == figures
    assert open_bundle(path).manifest.files["evaluation.json"] == sha256_of(path / "evaluation.json")


def test_it_is_reproducible(checkpoint: Path, measured: Path, tmp_path: Path) -> None:
    pages = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        path = exported(checkpoint, tmp_path / name, CARD | {"name": "twice"}, evaluation=measured)
        pages.append([(path / file).read_bytes() for file in ("card.md", "evaluation.json", "manifest.json")])
    assert pages[0] == pages[1]


class TestRefusals:
    def refused(
        self, checkpoint: Path, folder: Path, text: str, card: dict[str, Any] = CARD, **options: Any
    ) -> str:
        (folder / "evaluation.json").write_text(text)
        with pytest.raises(CardError) as refusal:
            exported(checkpoint, folder, card, evaluation=folder / "evaluation.json", **options)
        assert not (folder / "b").exists()
        assert "\n" not in str(refusal.value)
        return str(refusal.value)

    def test_figures_of_another_bundle(self, checkpoint: Path, measured: Path, tmp_path: Path) -> None:
        whole = measured.read_text()
        other = save_published(random_net(SMALL, seed=1), tmp_path / "other")
        assert "is of another checkpoint" in self.refused(other, tmp_path, whole)
        assert "is of another pooling cumulative, expected window:5" in self.refused(
            checkpoint, tmp_path, whole, pool="window:5"
        )
        card = put(copy.deepcopy(CARD), "preprocessing.std", 2)
        assert "is of another preprocessing" in self.refused(checkpoint, tmp_path, whole, card)
        card = CARD | {"labels": ["A", "C", "B"]}
        assert "has the classes A, B, C, expected A, C, B" in self.refused(checkpoint, tmp_path, whole, card)

    def test_damaged_figures(self, checkpoint: Path, measured: Path, tmp_path: Path) -> None:
        whole = measured.read_text()
        assert "cannot be read" in self.refused(checkpoint, tmp_path, whole[: len(whole) // 2])
        assert "cannot be read" in self.refused(checkpoint, tmp_path, "")
        changed = whole.replace('"records": 12', '"records": 13')
        assert "changed since it was written" in self.refused(checkpoint, tmp_path, changed)
        wrongs: list[dict[str, Any]] = [{"metric": "F1"}, {"precisions": {}}, {"resamples": -1}, {"more": 1}]
        for wrong in wrongs:
            entry = json.loads(whole) | wrong
            text = json.dumps(entry | {"sha256": digest_of(entry)})
            assert "write it with multires-edge evaluate --json" in self.refused(checkpoint, tmp_path, text)
        with pytest.raises(CardError, match="no such file"):
            exported(checkpoint, tmp_path, CARD, evaluation=tmp_path / "none.json")


def test_the_demonstration_has_the_figures_of_its_network() -> None:
    figures: Figures = read_figures(DEMO / "evaluation.json")
    card = read_card(DEMO / "card.json")
    assert figures.checkpoint == sha256_of(DEMO / "ckpt.pth")
    assert figures.preprocessing == card.preprocessing
    assert tuple(figures.precisions["fp32"].by_class or ()) == card.labels
    assert list(figures.precisions) == ["fp32", "fp16", "int8"] and len(figures.conditions) == 11
    assert figures.resamples == 1000 and card.intended_use and card.limits
