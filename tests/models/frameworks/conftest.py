"""The frameworks take seconds to import: they are not even collected where slow tests are left out."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if "not slow" in config.getoption("markexpr") else None
