"""A bundle to build engines of."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from multires_edge.export import export_bundle
from multires_edge.runtime import open_bundle
from multires_edge.runtime.engine_builder.build import Builder, Built
from tests.conftest import SMALL, random_net, save_published


@pytest.fixture(scope="session")
def exported_for_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("for_all")
    checkpoint = save_published(random_net(SMALL), folder / "run")
    return export_bundle(checkpoint, folder / "all.bundle", target="rtx,jetpack6").path


@pytest.fixture
def bundle(exported_for_all: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported_for_all, tmp_path / "all.bundle"))


def build_step(
    bundle: Path,
    capabilities: Sequence[str] | None = ("8.6",),
    ranges: Any = (),
    *,
    target: str = "rtx",
    force: bool = False,
    progress: Any = lambda _: None,
) -> Built:
    """Build the engine of a bundle's step."""
    builder = Builder.here(target, capabilities)
    plan = builder.plan(open_bundle(bundle), "step", "fp32", dict(ranges), force=force)
    return builder.build(plan, progress)
