"""The JSON Schemas: current, valid, and as strict as the reader."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from multires_edge.base.errors import BundleError, CardError
from multires_edge.format.card import read_card
from multires_edge.format.fields import digest_of
from multires_edge.format.reading import read_manifest
from multires_edge.format.schema import CARD_SCHEMA, MANIFEST_SCHEMA, schema_files
from tests.conftest import DEMO
from tests.hostile import put

Validator = jsonschema.Draft202012Validator


@pytest.mark.parametrize("path", [MANIFEST_SCHEMA, CARD_SCHEMA], ids=lambda path: path.stem)
def test_the_files_are_current_and_schemas(path: Path) -> None:
    assert path.read_text() == schema_files()[path], "run make docs"
    Validator.check_schema(json.loads(path.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("fixture", ["exported", "token_classifier", "drawing"])
def test_a_manifest(fixture: str, request: pytest.FixtureRequest) -> None:
    manifest = json.loads((request.getfixturevalue(fixture) / "manifest.json").read_text())
    Validator(json.loads(MANIFEST_SCHEMA.read_text())).validate(manifest)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.d_output", -1),
        ("model.d_output", True),
        ("model.task", "regression"),
        ("pool", 5),
        ("labels", [["a"], "b"]),
        ("source.sha256", "0" * 63),
        ("native.fp64", {}),
        ("files", {"../ckpt.pth": "0" * 64}),
        ("graphs.step.fp32.states.4.shape.2", 1 << 40),
        ("graphs.step.fp32.states.4.more", 1),
        ("graphs.whole", {}),
        ("version", 2),
        ("sha256", None),
        ("more", 1),
    ],
)
def test_schema_and_reader_refuse(exported: Path, path: str, value: Any, tmp_path: Path) -> None:
    entry = put(json.loads((exported / "manifest.json").read_text()), path, value)
    assert not Validator(json.loads(MANIFEST_SCHEMA.read_text())).is_valid(entry)
    (tmp_path / "manifest.json").write_text(json.dumps({"sha256": digest_of(entry)} | entry))
    with pytest.raises(BundleError):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("preprocessing.std", 0),
        ("preprocessing.std", -1.0),
        ("preprocessing.sampling_rate", "500"),
        ("preprocessing.channels", "I"),
        ("output", "relu"),
        ("name", "\x1b[31mred"),
        ("labels", ["two\nlines"]),
        ("licence", "CC0"),
    ],
)
def test_schema_and_reader_refuse_a_card(path: str, value: Any, tmp_path: Path) -> None:
    schema, file = Validator(json.loads(CARD_SCHEMA.read_text())), tmp_path / "card.json"
    card = json.loads((DEMO / "card.json").read_text())
    schema.validate(card)
    bad = put(copy.deepcopy(card), path, value)
    assert not schema.is_valid(bad)
    file.write_text(json.dumps(bad))
    with pytest.raises(CardError):
        read_card(file)
