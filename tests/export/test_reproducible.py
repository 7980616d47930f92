"""The same checkpoint gives the same bundle, to the byte."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from multires_edge.export import ExportOptions, export_bundle
from tests.conftest import SMALL, random_net, save_published


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_exports_at_another_time_and_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = save_published(random_net(SMALL), tmp_path)
    options = ExportOptions(precisions=("fp32", "fp16"), target="cpu,jetpack6")
    first = content_of(export_bundle(checkpoint, tmp_path / "a" / "first.bundle", options).path)
    # Another process, with other hashes, in another time zone and another folder.
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / checkpoint.name).write_bytes(checkpoint.read_bytes())
    (tmp_path / "b" / "args.txt").write_bytes((checkpoint.parent / "args.txt").read_bytes())
    time.sleep(1.1)
    command = [sys.executable, "-m", "multires_edge", "export", checkpoint.name, "-o", "second.bundle"]
    command += ["--precision", "fp32,fp16", "--target", "cpu,jetpack6"]
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C", "COLUMNS": "40"}
    subprocess.run(command, cwd=tmp_path / "b", env=environment, check=True, capture_output=True)
    second = content_of(tmp_path / "b" / "second.bundle")
    assert second.keys() == first.keys()
    assert [name for name in first if first[name] != second[name]] == []
