"""The commands of docs/tensorrt-runtime.md."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from multires_edge.cli.main import main
from multires_edge.runtime import open_bundle
from tests.conftest import ROOT, SMALL, random_inputs
from tests.runtime.backends.device.fake_driver import FakeCuda
from tests.runtime.backends.tensorrt.bundles import export
from tests.runtime.backends.tensorrt.fake_tensorrt import FakeTensorRt, install

pytestmark = pytest.mark.native


@pytest.fixture(scope="module")
def for_jetsons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("jetsons"), target="jetpack6,jetpack7").path


@pytest.mark.slow
@pytest.mark.parametrize(("target", "version"), [("jetpack6", "10.3.0"), ("jetpack7", "10.16.1")])
def test_the_documented_build_and_streams(
    target: str, version: str, for_jetsons: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first lines of docs/tensorrt-runtime.md, on a driver and a TensorRT that are not there."""
    driver = FakeCuda()
    install(monkeypatch, driver, FakeTensorRt(driver, version))
    folder = Path(shutil.copytree(for_jetsons, tmp_path / "a.bundle"))
    page = (ROOT / "docs" / "tensorrt-runtime.md").read_text()
    command = re.search(
        r"^ +multires-edge (build BUNDLE --target NAME [^#\n]*--streams 64)", page, re.MULTILINE
    )
    called = re.search(r'open_bundle\("out/demo.bundle"\).stream\((64, [^)]+)\)', page)
    assert command and called
    words = command[1].replace("BUNDLE", str(folder)).replace("NAME", target).split()
    assert CliRunner().invoke(main, words).exit_code == 0
    arguments: dict[str, Any] = dict(pair.split("=") for pair in called[1].replace('"', "").split(", ")[1:])
    stream = open_bundle(folder).stream(64, **arguments)
    x = random_inputs(SMALL, 64, 20)
    native = open_bundle(folder).stream(64, backend="native", precision=arguments["precision"])
    np.testing.assert_allclose(stream.run(x), native.run(x), rtol=0, atol=5e-2)
