"""A bundle with kernels that the tests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from multires_edge.runtime import open_bundle
from multires_edge.runtime.engine_builder.kernels import build_kernels
from tests.runtime.backends.device.fake_driver import install_compiler


@pytest.fixture(scope="session")
def planned(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with kernels and their plans, by the compiler of the fake driver."""
    folder = Path(shutil.copytree(exported, tmp_path_factory.mktemp("planned") / "bundle"))
    with pytest.MonkeyPatch.context() as patch:
        install_compiler(patch, folder.parent)
        build_kernels(open_bundle(folder), [])
    return folder
