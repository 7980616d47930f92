"""``multires-edge verify --device-report``: what a bundle takes in, and what it does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from multires_edge.cli.main import main
from multires_edge.format.fields import digest_of
from multires_edge.runtime.bundle import open_bundle
from multires_edge.runtime.kit.stored_reports import read_report, store_report
from tests.hostile import check_hostile


def verify(bundle: Path, report: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["verify", str(bundle), "--device-report", str(report), *arguments])


@pytest.fixture
def report(check: Callable[..., int], tmp_path: Path) -> Path:
    """What the kit's script wrote."""
    assert check("--steps", "20", "--precision", "fp32", "--name", "Orin <NX> & co") == 0
    return tmp_path / "device_report.json"


@pytest.fixture
def bundle(for_jetson: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(for_jetson, tmp_path / "small.bundle"))


def changed(report: Path, **fields: Any) -> Path:
    """The report with other values under a right digest."""
    entry = json.loads(report.read_text()) | fields
    report.write_text(json.dumps(entry | {"sha256": digest_of(entry)}))
    return report


@pytest.mark.slow
def test_taken_in_and_shown(bundle: Path, report: Path) -> None:
    for _ in range(2):  # the second replaces the first
        result = verify(bundle, report)
        assert result.exit_code == 0, result.output
    assert "on the device: all" in result.stdout and "p50" in result.stdout
    (stored,) = (bundle / "devices").glob("*.json")
    assert stored.name == "orin-nx-co-onnxruntime.json"
    assert json.loads(stored.read_text()) == json.loads(report.read_text())
    page = (bundle / "devices" / "index.html").read_text()
    assert "Orin &lt;NX&gt; &amp; co" in page and "<NX>" not in page
    assert 'data="devices/index.html"' in (bundle / "report.html").read_text()
    assert CliRunner().invoke(main, ["verify", str(bundle)]).exit_code == 0, "the bundle itself is unchanged"


def test_another_that_is_damaged_is_shown_as_such(bundle: Path, report: Path) -> None:
    (bundle / "devices").mkdir()
    (bundle / "devices" / "old.json").write_text("{")
    assert verify(bundle, report).exit_code == 0
    page = (bundle / "devices" / "index.html").read_text()
    assert "Orin" in page and "old.json: cannot be read" in page


def test_a_file_where_the_reports_go(bundle: Path, report: Path) -> None:
    (bundle / "devices").write_text("mine")
    result = verify(bundle, report)
    assert result.exit_code == 2 and "devices: exists and is not a folder" in result.stderr
    assert (bundle / "devices").read_text() == "mine"


def test_as_json(bundle: Path, report: Path) -> None:
    entry = json.loads(verify(bundle, report, "--json").stdout)
    assert entry["passed"] and entry["device_report"]["name"] == "Orin <NX> & co"


def test_one_that_failed(bundle: Path, report: Path) -> None:
    entry = json.loads(report.read_text())
    next(check for check in entry["checks"] if check["tensor"] == "logits")["passed"] = False
    result = verify(bundle, changed(report, passed=False, checks=entry["checks"]))
    assert result.exit_code == 1
    assert "logits is off at step" in result.stdout and "FAILED" in result.stdout
    assert "FAILED" in (bundle / "devices" / "index.html").read_text()


def test_of_another_bundle(exported: Path, report: Path) -> None:
    result = verify(exported, report)
    assert result.exit_code == 2 and "belongs to another bundle" in result.stderr
    assert not (exported / "devices").exists()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"version": 9}, "this release reads 1"),
        ({"format": "other"}, "not a device report"),
        ({"checks": [{"passed": False}]}, "checks[0]: has no name"),
        ({"backend": "tensorrt"}, "backend is 'tensorrt', expected an object"),
        ({"backend": {"version": "1"}}, "backend: has no name"),
        ({"bundle": None}, "bundle is None, expected an object"),
        ({"bundle": {"manifest_sha256": 5}}, "bundle.manifest_sha256 is 5, expected a string"),
        ({"passed": False}, "contradicts its checks"),
        ({"passed": "no"}, "passed is 'no', expected true or false"),
        ({"name": "\x1b[31mOrin"}, "expected one line of text"),
        ({"notes": ["\ud800"]}, "expected one line of text"),
        ({"device": {"machine": "arm", "cores": -4}}, "device: has no system"),
        ({"checks": []}, "contradicts its checks"),
        ({"timing": [{"p50_us": float("nan")}]}, "NaN is not JSON"),
    ],
)
def test_refused(fields: dict[str, Any], words: str, bundle: Path, report: Path) -> None:
    result = verify(bundle, changed(report, **fields))
    assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1
    assert not (bundle / "devices").exists()


@pytest.mark.slow
def test_generated_hostile_reports(bundle: Path, report: Path) -> None:
    opened = open_bundle(bundle)

    def use(entry: Any) -> None:
        report.write_text(json.dumps(entry | {"sha256": digest_of(entry)}))
        found = read_report(report, opened)
        assert all(c.isprintable() for line in found.lines() for c in line)
        store_report(found, opened)

    taken, refused = check_hostile([json.loads(report.read_text())], use)
    assert taken and refused


def test_a_changed_or_truncated_one(bundle: Path, report: Path) -> None:
    text = report.read_text()
    report.write_text(text.replace('"passed": true', '"passed": false', 1))
    assert "changed since it was written" in verify(bundle, report).stderr
    report.write_text(text[: len(text) // 2])
    assert "cannot be read" in verify(bundle, report).stderr
    report.unlink()
    assert verify(bundle, report).exit_code == 2
