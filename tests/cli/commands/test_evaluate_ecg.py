"""``multires-edge evaluate --ecg`` as a user types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from multires_edge.cli.main import main
from multires_edge.format.fields import plain
from multires_edge.runtime import open_bundle
from multires_edge.runtime.ecg.settings import StreamOptions
from multires_edge.runtime.evaluation.decision_accuracy import NOTICE, assess
from multires_edge.runtime.evaluation.recordings import load_recordings
from tests.cli.commands.test_export import assert_refused
from tests.runtime.conftest import beats, two_leads

__all__ = ["two_leads"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *(str(argument) for argument in arguments)])


@pytest.fixture
def records(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    labels = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 0]], np.uint8)
    np.savez(tmp_path / "a.npz", x=random.standard_normal((4, 2, 300), np.float32), labels=labels)
    return tmp_path / "a.npz"


def test_prints_what_the_library_measures(two_leads: Path, records: Path) -> None:
    options = ("--threshold", "B=0.25", "--pool", "window:2s", "--every", "1s")
    result = run(two_leads, "--ecg", "--data", records, *options, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    bundle = open_bundle(two_leads)
    limits = {"A": 0.5, "B": 0.25, "C": 0.5}
    settings = StreamOptions(pool="window:2s", every="1s")
    expected = plain(assess(bundle, load_recordings(records, bundle), limits, settings))
    printed = json.loads(result.stdout)
    assert {key: printed[key] for key in expected} == expected
    assert printed["notice"] == NOTICE
    text = run(two_leads, "--ecg", "--data", records, *options)
    assert text.exit_code == 0
    sensitivity = expected["by_class"]["B"]["sensitivity"]
    assert f"{sensitivity['value']:.1%} [{sensitivity['interval'][0]:.1%}" in text.stdout
    assert text.stdout.rstrip().endswith(NOTICE)


def test_thresholds_come_from_other_data(two_leads: Path, records: Path, tmp_path: Path) -> None:
    other = shutil.copy(records, tmp_path / "b.npz")
    result = run(
        two_leads, "--ecg", "--data", records, "--thresholds-from", other, "--threshold", "C=0.5", "--json"
    )
    assert result.exit_code == 0
    chosen = {label: each["threshold"] for label, each in json.loads(result.stdout)["by_class"].items()}
    assert chosen["C"] == 0.5
    assert 0.5 not in (chosen["A"], chosen["B"])


def test_refuses_what_would_mislead(two_leads: Path, records: Path) -> None:
    for options, complaint in (
        (("--ecg", "--thresholds-from", records), "--thresholds-from is also --data"),
        (("--ecg", "--threshold", "D=0.5"), "the labels are A, B, C"),
        (("--ecg", "--graph", "step"), "--graph is not for --ecg"),
        (("--ecg", "--bootstrap", "10"), "--bootstrap is not for --ecg"),
        (("--ecg", "--field-conditions"), "--field-conditions is not for --ecg"),
        (("--pool", "cumulative"), "--pool is an option of --ecg"),
        (("--ecg", "--precision", "int4"), "int4"),
    ):
        assert_refused(run(two_leads, "--data", records, *options), complaint)


class TestRenamedLeads:
    """Two recorders, of which the second calls leads I and II otherwise."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return _recorders(tmp_path / "two", ("MLII", "V"))

    @pytest.fixture
    def right(self, tmp_path: Path) -> Path:
        return _recorders(tmp_path / "one", ("II", "I"))

    @pytest.mark.parametrize("prefix", ["", "b:", "b.npz:"])
    @pytest.mark.parametrize("ecg", [True, False])
    def test_are_read_where_they_are(
        self, two_leads: Path, folder: Path, right: Path, prefix: str, ecg: bool
    ) -> None:
        leads = ("--lead", f"{prefix}II=MLII", "--lead", f"{prefix}I=V")
        options = ("--ecg", "--json") if ecg else ("--json",)
        found = run(two_leads, "--data", folder, *options, *leads)
        assert found.exit_code == 0, found.stderr
        expected = run(two_leads, "--data", right, *options)
        first, second = (json.loads(result.stdout) for result in (found, expected))
        for each in (first, second):
            for key in ("data", "rename", "sha256"):  # the digest of the whole, with the name of the data
                each.pop(key, None)
        assert first == second

    @pytest.mark.parametrize("ecg", [True, False])
    @pytest.mark.parametrize(
        ("leads", "complaint"),
        [
            ((), "b.npz: no lead I, II; the source has MLII, V"),
            (("II=MLII", "I=V", "b:I=V9"), "b.npz: has no lead V9; it has MLII, V"),
            (("b:II=MLII", "b:I=V", "a:II=MLII"), "a.npz: has no lead MLII; it has I, II"),
            (("b:II=MLII", "b:I=V", "c:II=MLII"), "--lead c:II=MLII: no source has that name or that lead"),
            (("aVX=MLII",), "no channel aVX to rename a lead to"),
        ],
    )
    def test_are_refused_where_they_are_not(
        self, two_leads: Path, folder: Path, leads: tuple[str, ...], complaint: str, ecg: bool
    ) -> None:
        given = [part for each in leads for part in ("--lead", each)]
        options = ("--ecg",) if ecg else ()
        assert_refused(run(two_leads, "--data", folder, *options, *given), complaint)


def _recorders(home: Path, leads: tuple[str, str]) -> Path:
    home.mkdir()
    samples = beats(12, 250)
    np.savez(home / "a.npz", samples=samples, leads=["I", "II"], rate=250, unit="mV")
    np.savez(home / "b.npz", samples=samples[::-1, ::-1], leads=leads, rate=250, unit="mV")
    (home / "labels.csv").write_text("record,A,B,C\na.npz,1,0,0\nb.npz,0,1,1\n")
    return home
