"""The table of targets."""

from __future__ import annotations

import onnxruntime
import pytest

from multires_edge.export.targets import TARGETS, target_named
from multires_edge.runtime.errors import ConfigError


def test_by_name() -> None:
    assert target_named("portable").opset == 17


def test_the_default_runs_here() -> None:
    installed = tuple(map(int, onnxruntime.__version__.split(".")[:2]))
    assert target_named(None).onnxruntime <= installed


def test_an_older_onnxruntime_gets_older_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.23.2")
    assert target_named(None) is TARGETS["portable"]
    monkeypatch.setattr(onnxruntime, "__version__", "1.31.1")
    assert target_named(None) is TARGETS["cpu"]


def test_a_typo_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean portable"):
        target_named("portabel")
