"""Pages that the tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from multires_edge.export.web.page import Example, write_page
from multires_edge.runtime import Bundle
from tests.conftest import ROOT
from tests.export.web.harness import node
from tests.runtime.conftest import twelve_leads

__all__ = ["twelve_leads"]


@pytest.fixture(scope="session")
def demo_page(twelve_leads: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the demonstration network, with the recording that ships."""
    node()
    folder = tmp_path_factory.mktemp("page") / "demo.page"
    write_page(twelve_leads, folder, example=Example(ROOT / "examples" / "ecg.csv", 100, "mV"))
    return folder
