"""A bundle with full, step and taps graphs that the tests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from multires_edge.runtime import Bundle, open_bundle
from tests.runtime.backends.tensorrt.bundles import export


@pytest.fixture(scope="session")
def with_taps(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(tmp_path_factory.mktemp("taps"), pool="window:9")


@pytest.fixture
def copied(with_taps: Bundle, tmp_path: Path) -> Bundle:
    """The same, for a test that adds engines."""
    return open_bundle(shutil.copytree(with_taps.path, tmp_path / "a.bundle"))
