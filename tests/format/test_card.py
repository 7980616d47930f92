"""Model cards, good and bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.base.errors import CardError
from multires_edge.format.card import Preprocessing, read_card
from multires_edge.format.fields import plain
from tests.conftest import DEMO, SMALL

GOOD: dict[str, Any] = {
    "name": "two leads",
    "preprocessing": {
        "sampling_rate": 100, "channels": ["I", "II"], "unit": "mV", "mean": 0.5, "std": [0.5, 2.0],
    },
    "labels": ["a", "b", "c"],
    "output": "sigmoid",
}  # fmt: skip


def changed(**changes: Any) -> dict[str, Any]:
    preprocessing = GOOD["preprocessing"] | changes
    return GOOD | {"preprocessing": preprocessing}


def write(tmp_path: Path, entry: Any) -> Path:
    path = tmp_path / "card.json"
    path.write_text(json.dumps(entry))
    return path


def test_good(tmp_path: Path) -> None:
    card = read_card(write(tmp_path, GOOD), SMALL)
    assert card.labels == ("a", "b", "c")
    assert plain(card.about) == {"name": "two leads", "output": "sigmoid"}
    assert card.preprocessing is not None
    x = card.preprocessing.normalize(np.array([[1.0, 0.5], [2.5, 0.5]]))
    assert x.dtype == np.float32
    assert x.tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_the_demonstration_card_is_good() -> None:
    card = read_card(DEMO / "card.json")
    assert card.labels == ("CD", "HYP", "MI", "NORM", "STTC")
    assert tuple(card.label_descriptions or ()) == card.labels


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ([], "expected an object"),
        (GOOD | {"lables": []}, "unknown keys"),
        (GOOD | {"labels": ["a"]}, "1 labels for a network with 3 outputs"),
        (GOOD | {"labels": [1, 2, 3]}, r"labels\[0\] is 1, expected a string"),
        (GOOD | {"labels": ["a", "a", "b"]}, "labels are a, a, b, expected one or more different names"),
        (
            GOOD | {"labels": ["a", "b", "\x1b[31mc"]},
            r"labels\[2\] is '.x1b\[31mc', expected one line",
        ),
        (GOOD | {"label_descriptions": {"d": "D"}}, "label_descriptions has d, expected names of labels"),
        (GOOD | {"label_descriptions": {"a": 1}}, "label_descriptions.a is 1, expected a string"),
        ({"label_descriptions": {"a": "A"}}, "label_descriptions has a, expected names of labels"),
        (GOOD | {"output": "tanh"}, "output is 'tanh', expected sigmoid or softmax"),
        (GOOD | {"preprocessing": {"mean": 0}}, "preprocessing: has no sampling_rate"),
        (changed(channels=["I"], std=1), "1 channels for a network that takes 2 inputs"),
        (changed(channels=["I", "i"]), "preprocessing: channels are I, i, expected one or more different"),
        (changed(std=0), "preprocessing.std is 0, expected a number above 0"),
        (changed(std=[1, 2, 3]), "std has 3 numbers for 2 channels, expected one or 2"),
        (changed(mean=float("nan")), "NaN is not JSON"),
        (changed(mean=10**400), "mean is 1000"),
        (changed(unit=[1]), r"unit is \[1\], expected a string"),
        (changed(unit="m\ud800"), "unit is .*, expected one line of text"),
        (GOOD | {"source": float("inf")}, "Infinity is not JSON"),
        (changed(sampling_rate="100 Hz"), "sampling_rate is '100 Hz'"),
        (changed(sampling_rate=True), "sampling_rate is True"),
    ],
)
def test_bad(tmp_path: Path, entry: Any, message: str) -> None:
    with pytest.raises(CardError, match=message):
        read_card(write(tmp_path, entry), SMALL)


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="no such file"):
        read_card(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"name": ')
    with pytest.raises(CardError, match="cannot be read as JSON"):
        read_card(tmp_path / "half.json")


def test_numbers_for_a_person_are_rounded() -> None:
    preprocessing = Preprocessing(100.0, ("I", "II"), "mV", (0.1 + 0.2, 1 / 3), 0.2)
    assert preprocessing.rows() == [
        ("sampling_rate", "100"),
        ("channels", "I, II"),
        ("unit", "mV"),
        ("mean", "0.3, 0.333333"),
        ("std", "0.2"),
    ]
