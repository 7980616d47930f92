"""Which graphs are written for which targets."""

from __future__ import annotations

import onnxruntime
import pytest

from multires_edge.base.errors import ConfigError
from multires_edge.export.target_selection import forms_of, targets_named
from multires_edge.format.targets import TARGETS


def test_the_default_runs_here() -> None:
    installed = tuple(map(int, onnxruntime.__version__.split(".")[:2]))
    assert targets_named(None)[0].onnxruntime <= installed


def test_an_older_onnxruntime_gets_older_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.23.2")
    assert targets_named(None) == [TARGETS["portable"]]
    monkeypatch.setattr(onnxruntime, "__version__", "1.31.1")
    assert targets_named(None) == [TARGETS["cpu"]]


def test_a_typo_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean portable"):
        targets_named("portabel")
    with pytest.raises(ConfigError, match="did you mean jetpack6"):
        targets_named("cpu,jetpak6")


def test_several_by_one_string() -> None:
    assert [t.name for t in targets_named(" jetpack6, rtx,jetpack6 ")] == ["jetpack6", "rtx"]


@pytest.mark.parametrize("names", ["", ",", []])
def test_none_at_all(names: str | list[str]) -> None:
    with pytest.raises(ConfigError, match=r"unknown target ''|no target given"):
        targets_named(names)


def test_targets_that_take_the_same_form_share_it() -> None:
    assert forms_of(targets_named("cpu,rtx,tensorrt11")) == [TARGETS["cpu"].forms[0]]
    assert [form.opset for form in forms_of(targets_named("jetpack6,rtx"))] == [17, 24]
    assert [form.opset for form in forms_of(targets_named("jetpack7"))] == [24, 17]


def test_what_cannot_be_proven_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.23.2")
    assert targets_named("jetpack6")
    with pytest.raises(
        ConfigError, match=r"opset 24, which the installed onnxruntime 1\.23 cannot run: install"
    ):
        targets_named("jetpack6,rtx")
