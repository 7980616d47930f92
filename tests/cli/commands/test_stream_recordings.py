"""``multires-edge stream`` on recordings as users have them, each a situation of a report of a bug.

All are made of ten seconds of one patient at 250 Hz, so what must come out is known: the decisions of the
same samples in an .npz file, or of them up to a hole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from multires_edge.cli.main import main
from multires_edge.runtime import Bundle
from tests import ecg_files
from tests.cli.commands.test_export import assert_refused
from tests.cli.commands.test_stream import run
from tests.ecg_files import LEADS
from tests.runtime.conftest import ludb, named_leads, twelve_leads, two_leads

__all__ = ["ludb", "twelve_leads", "two_leads"]

Samples = np.ndarray[Any, np.dtype[np.int16]]
RATE = 250
_HEADER = ",".join(LEADS)


@dataclass(frozen=True)
class Outcome:
    """What the command wrote."""

    decisions: list[dict[str, Any]]
    events: list[dict[str, Any]]
    said: list[str]

    @property
    def times(self) -> list[float]:
        return [each["time"] for each in self.decisions]

    @property
    def probabilities(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([list(each["probabilities"].values()) for each in self.decisions])


def stream(bundle: Path, *arguments: object) -> Outcome:
    result = CliRunner().invoke(main, ["stream", str(bundle), *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    kinds = [[line for line in lines if line["type"] == kind] for kind in ("decision", "event")]
    return Outcome(kinds[0], kinds[1], result.stderr.splitlines())


@pytest.fixture(scope="session")
def x(ludb: tuple[np.ndarray[Any, Any], list[str]]) -> Samples:
    """Samples (2500, 12) in microvolt."""
    return np.asarray(np.round(1000 * ludb[0][::2]), np.int16)


@pytest.fixture(scope="session")
def bundle(twelve_leads: Bundle) -> Path:
    return twelve_leads.path


def npz(path: Path, samples: Any, leads: Sequence[str] = LEADS, unit: str = "uV") -> Path:
    np.savez(path, samples=samples, leads=list(leads), rate=RATE, unit=unit)
    return path


@pytest.fixture
def base(bundle: Path, x: Samples, tmp_path: Path) -> Outcome:
    """What is decided of the patient."""
    return stream(bundle, npz(tmp_path / "base.npz", x), "--pool", "cumulative")


def rows(x: Samples, row: Callable[[int, str], str] = lambda i, cells: cells) -> list[str]:
    """Lines of a table in millivolt."""
    return [row(i, ",".join(f"{value / 1000:.3f}" for value in line)) for i, line in enumerate(x)]


def write(path: Path, lines: Iterable[str], encoding: str = "utf-8") -> Path:
    path.write_text("\n".join(lines) + "\n", encoding)
    return path


class TestElectrodes:
    def test_an_offset_is_filtered(self, bundle: Path, x: Samples, base: Outcome, tmp_path: Path) -> None:
        found = stream(bundle, npz(tmp_path / "a.npz", x + 1000), "--pool", "cumulative")
        assert np.allclose(found.probabilities, base.probabilities, atol=1e-5)
        assert all(each["quality"] == {} for each in found.decisions)

    def test_or_flagged_without_a_filter(self, two_leads: Path, x: Samples, tmp_path: Path) -> None:
        options = ("--threshold", "A=0.01", "--threshold", "B=0.01", "--threshold", "C=0.01")
        usual = npz(tmp_path / "usual.npz", x[:, :2], LEADS[:2])
        assert [each["event"] for each in stream(two_leads, usual, *options).events] == ["onset"] * 3
        found = stream(two_leads, npz(tmp_path / "a.npz", x[:, :2] + 1000, LEADS[:2]), *options)
        assert not found.events
        assert found.decisions[-1]["quality"] == {"I": ["offset"], "II": ["offset"]}

    def test_none_on_the_patient(self, bundle: Path, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", [_HEADER, *[",,,,,,,,,,,"] * 1250])
        found = stream(bundle, path, "--rate", 250, "--unit", "mV", "--threshold", "MI=0.6")
        assert not found.events and len(found.decisions) == 10
        assert all(each["probabilities"] is None and each["no_signal"] for each in found.decisions)

    def test_no_alarm_before_the_window_is_full(self, bundle: Path, x: Samples, tmp_path: Path) -> None:
        path = npz(tmp_path / "a.npz", np.concatenate([x, x]))
        found = stream(bundle, path, "--threshold", "STTC=0.4")
        early = [each["probabilities"]["STTC"] >= 0.4 for each in found.decisions if each["time"] < 10]
        assert sum(early) > 5
        assert [(each["event"], each["time"]) for each in found.events] == [("onset", 10)]
        assert [each.get("warming", False) for each in found.decisions] == [True] * 19 + [False] * 21

    def test_sentinels_are_no_values(self, bundle: Path, x: Samples, base: Outcome, tmp_path: Path) -> None:
        """One in ten, of all leads at once. They are held, so that much is another signal."""
        at = np.random.default_rng(0).permutation(len(x) - 1)[: len(x) // 10] + 1
        wrong, held = x.copy(), x.copy()
        wrong[at] = -32768
        for i in sorted(at):
            held[i] = held[i - 1]
        found = stream(bundle, npz(tmp_path / "a.npz", wrong), "--pool", "cumulative")
        right = stream(bundle, npz(tmp_path / "b.npz", held), "--pool", "cumulative")
        assert np.array_equal(found.probabilities, right.probabilities)
        assert abs(found.probabilities[-1] - base.probabilities[-1])[1] < 0.02
        assert found.decisions[-1]["quality"] == {lead: ["nan"] for lead in LEADS}


class TestTables:
    """Three seconds at 100 Hz."""

    @pytest.fixture
    def right(self, bundle: Path, x: Samples, tmp_path: Path) -> Outcome:
        path = write(tmp_path / "right.csv", [_HEADER, *rows(x[:300])])
        return stream(bundle, path, "--rate", 100, "--unit", "mV")

    def is_right(self, found: Outcome, right: Outcome) -> bool:
        return found.times == right.times and np.array_equal(found.probabilities, right.probabilities)

    @pytest.mark.parametrize("name", ["timestamp", "time", "Time [s]", "unix_time", "Zeit"])
    def test_a_hole(self, bundle: Path, x: Samples, right: Outcome, tmp_path: Path, name: str) -> None:
        again = [
            f"{1.7e9 + i / 100 + (60 if i >= 300 else 0):.2f},{cells}"
            for i, cells in enumerate(rows(np.concatenate([x[:300], x[:300]])))
        ]
        path = write(tmp_path / "a.csv", [f"{name},{_HEADER}", *again])
        found = stream(bundle, path, "--unit", "mV")
        assert [(each["event"], each["time"]) for each in found.events] == [
            ("gap", 3), ("silent", 4), ("restart", 63),
        ]  # fmt: skip
        assert found.events[0]["seconds"] == pytest.approx(60, abs=0.011)
        after = [each["probabilities"] for each in found.decisions if each["time"] > 63]
        assert after == [each["probabilities"] for each in right.decisions]

    @pytest.mark.parametrize("name", ["time", "time_ms", "t", "Timestamp"])
    @pytest.mark.parametrize(("step", "start"), [(10, 0), (10_000, 17e14), (10_000_000, 17e17)])
    def test_times_in_parts_of_seconds(
        self, bundle: Path, x: Samples, right: Outcome, tmp_path: Path, name: str, step: int, start: float
    ) -> None:
        lines = rows(x[:300], lambda i, cells: f"{int(start) + step * i},{cells}")
        found = stream(bundle, write(tmp_path / "a.csv", [f"{name},{_HEADER}", *lines]), "--unit", "mV")
        assert self.is_right(found, right) and not found.events

    @pytest.mark.parametrize("zone", ["", "Z", "+02:00"])
    def test_dates(self, bundle: Path, x: Samples, right: Outcome, tmp_path: Path, zone: str) -> None:
        def date(i: int) -> str:
            return (
                f"2024-05-01T09:59:{58 + i / 100:06.3f}{zone}"
                if i < 200
                else (f"2024-05-01T10:00:{i / 100 - 2:06.3f}{zone}")
            )

        table = write(tmp_path / "a.csv", [f"time,{_HEADER}", *rows(x[:300], lambda i, c: f"{date(i)},{c}")])
        lines = [json.dumps({"leads": LEADS, "rate": 100, "unit": "mV"})]
        lines += rows(x[:300], lambda i, c: f'{{"time": "{date(i)}", "samples": [[{c}]]}}')
        for path in (table, write(tmp_path / "a.jsonl", lines)):
            found = stream(bundle, path, "--unit", "mV")
            assert self.is_right(found, right) and not found.events

    @pytest.mark.parametrize(
        ("head", "row"),
        [
            (_HEADER, lambda i, cells: f"{cells},"),
            ('"",' + ",".join(f'"{lead}"' for lead in LEADS), lambda i, cells: f'"{i + 1}",{cells}'),
            (_HEADER.replace(",", ";"), lambda i, cells: cells.replace(",", ";").replace(".", ",")),
        ],
        ids=["trailing commas", "quotes", "decimal commas"],
    )
    def test_notations(
        self, bundle: Path, x: Samples, right: Outcome, tmp_path: Path, head: str,
        row: Callable[[int, str], str],
    ) -> None:  # fmt: skip
        path = write(tmp_path / "a.csv", [head, *rows(x[:300], row)])
        found = stream(bundle, path, "--rate", 100, "--unit", "mV")
        assert self.is_right(found, right) and not found.events


class TestClocks:
    """Packets of 25 samples, of which none is lost."""

    @pytest.mark.parametrize(("rate", "jitter"), [(249.7, 0), (250.4, 0), (250, 0.01)])
    def test_of_devices(self, bundle: Path, x: Samples, tmp_path: Path, rate: float, jitter: float) -> None:
        draw = np.random.default_rng(0)
        longer = np.concatenate([x] * 3)
        lines = [json.dumps({"leads": LEADS, "rate": RATE, "unit": "uV"})]
        for i in range(0, len(longer), 25):
            time = i / rate + draw.uniform(-jitter, jitter)
            lines.append(json.dumps({"time": time, "samples": longer[i : i + 25].tolist()}))
        found = stream(bundle, write(tmp_path / "a.jsonl", lines))
        exact = stream(bundle, npz(tmp_path / "a.npz", longer))
        assert not found.events and not any(each["quality"] for each in found.decisions)
        assert found.times == exact.times
        assert np.array_equal(found.probabilities, exact.probabilities)


class TestRecordings:
    """Of the patient, in the formats of archives."""

    def same(self, found: Outcome, base: Outcome) -> None:
        assert not found.events and found.times == base.times
        assert np.allclose(found.probabilities, base.probabilities, atol=1e-4)
        assert not any(each["quality"] for each in found.decisions)

    def test_wfdb_in_segments_that_start_with_a_gap(
        self, bundle: Path, x: Samples, base: Outcome, tmp_path: Path
    ) -> None:
        path = ecg_files.layout(tmp_path, x, gap=2000)
        found = stream(bundle, path, "--pool", "cumulative")
        assert [(each["event"], each["time"]) for each in found.events] == [
            ("gap", 0), ("silent", pytest.approx(1, abs=0.2)), ("restart", 8),
        ]  # fmt: skip
        assert found.events[0]["seconds"] == 8 and found.times[-1] == 18
        # After 5 s most leads are gone, which the filter sees a second before.
        heard = [each["probabilities"] for each in found.decisions if 8 < each["time"] <= 12]
        assert heard == [each["probabilities"] for each in base.decisions[:8]]

    def test_wfdb_in_frames(self, bundle: Path, x: Samples, base: Outcome, tmp_path: Path) -> None:
        """Of 16 samples of each lead: the record's rate is that of the frames."""
        frames = x[:2496].reshape(156, 16, 12).transpose(0, 2, 1)
        frames.astype("<i2").tofile(tmp_path / "a.dat")
        lines = [f"a.dat 16x16 1000/mV 16 0 0 0 0 {lead}" for lead in LEADS]
        write(tmp_path / "a.hea", ["a 12 15.625 156", *lines])
        found = stream(bundle, tmp_path / "a", "--pool", "cumulative")
        assert found.times == base.times[:19] and not found.events
        # Four samples fewer come after the last decision.
        assert np.allclose(found.probabilities[:18], base.probabilities[:18], atol=1e-5)
        assert np.allclose(found.probabilities[18], base.probabilities[18], atol=1e-3)

    @pytest.mark.parametrize(
        ("head", "gain", "note"),
        [
            ("a 12 250 2500", "0", "the header has no gain; it is 200 per mV by the format's definition"),
            ("a 12", "200/mV", "the header has no rate; it is 250 Hz by the format's definition"),
        ],
    )
    def test_wfdb_says_what_it_takes_for_granted(
        self, bundle: Path, x: Samples, base: Outcome, tmp_path: Path, head: str, gain: str, note: str
    ) -> None:
        x.astype("<i2").tofile(tmp_path / "a.dat")
        write(tmp_path / "a.hea", [head, *[f"a.dat 16 {gain} 16 0 0 0 0 {lead}" for lead in LEADS]])
        found = stream(bundle, tmp_path / "a", "--pool", "cumulative")
        fifth = stream(bundle, npz(tmp_path / "b.npz", x / 200, unit="mV"), "--pool", "cumulative")
        assert len(found.said) == 1 and found.said[0].endswith(note)
        assert np.array_equal(found.probabilities, fifth.probabilities)

    def signals(self, x: Samples, unit: str = "uV") -> list[tuple[str, str, Any]]:
        return [(f"ECG {lead}", unit, x[:, i].reshape(10, RATE)) for i, lead in enumerate(LEADS)]

    def test_edf_of_a_sleep_laboratory(self, bundle: Path, x: Samples, base: Outcome, tmp_path: Path) -> None:
        eeg = ("EEG C3-A2", "uV", ecg_files.numbers(2000, 1).reshape(10, 200))
        (tmp_path / "a.edf").write_bytes(ecg_files.edf([eeg, *self.signals(x)]))
        found = stream(bundle, tmp_path / "a.edf", "--pool", "cumulative")
        self.same(found, base)
        assert [line.partition(": ")[2] for line in found.said] == [
            f"{tmp_path}/a.edf: EEG C3-A2 (200 Hz): not at 250 Hz, not read"
        ]

    @pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
    @pytest.mark.parametrize("bits", [16, 24])
    def test_edf_and_bdf_in_microvolt(
        self, bundle: Path, x: Samples, base: Outcome, tmp_path: Path, bits: int, encoding: str
    ) -> None:
        data = ecg_files.edf(self.signals(x, "\u00b5V"), bits=bits, encoding=encoding)
        path = tmp_path / ("a.edf" if bits == 16 else "a.bdf")
        path.write_bytes(data)
        self.same(stream(bundle, path, "--pool", "cumulative"), base)

    def test_edf_with_a_lead_that_is_not_calibrated(self, bundle: Path, x: Samples, tmp_path: Path) -> None:
        path = tmp_path / "a.edf"
        path.write_bytes(ecg_files.edf(self.signals(x), uncalibrated=["ECG V6"]))
        assert_refused(run(bundle, path), "ECG V6: not calibrated, not read", "no lead V6")
        found = stream(bundle, path, "--allow-missing")
        without = stream(bundle, npz(tmp_path / "a.npz", x[:, :11], LEADS[:11]), "--allow-missing")
        assert found.decisions[-1]["quality"] == {"V6": ["missing"]}
        assert np.allclose(found.probabilities, without.probabilities, atol=1e-4)

    def test_dicom(self, bundle: Path, x: Samples, base: Outcome, tmp_path: Path) -> None:
        (tmp_path / "a.dcm").write_bytes(ecg_files.dicom(x, RATE))
        self.same(stream(bundle, tmp_path / "a.dcm", "--pool", "cumulative"), base)


class TestSingleLeads:
    """Of phones, kits and watches: the patient's lead I, and the name of a person in the head."""

    @pytest.fixture
    def right(self, bundle: Path, x: Samples, tmp_path: Path) -> Outcome:
        return stream(bundle, npz(tmp_path / "right.npz", x[:, :1], ["I"]), "--allow-missing")

    def polar(self, x: Samples) -> list[str]:
        lines = ["Phone timestamp;sensor timestamp [ns];timestamp [ms];ecg [uV]"]
        for i, value in enumerate(x[:, 0]):
            clock = f"2024-05-01T10:00:{i / RATE:06.3f}"
            lines.append(f"{clock};{599616 * 10**12 + 4_000_000 * i};{4 * i:.6f};{value}")
        return lines

    def opensignals(self, x: Samples) -> list[str]:
        about = {"device": "bitalino", "sampling rate": RATE, "resolution": [4, 16], "label": ["A1"]}
        about |= {"column": ["nSeq", "A1"], "sensor": ["ECGBIT"], "comments": "Ann Other"}
        lines = ["# OpenSignals Text File Format. Version 1", f"# {json.dumps({'00:01': about})}"]
        lines.append("# EndOfHeader")
        raw = np.round((x[:, 0] / 1000 * 1.1 / 3.3 + 0.5) * 65536)
        return [*lines, *(f"{i % 16}\t{value:.0f}\t" for i, value in enumerate(raw))]

    def watch(self, x: Samples) -> list[str]:
        lines = ["Name,Ann Other", 'Date of Birth,"Jan 1, 1970"', "Classification,Sinus Rhythm"]
        lines += [f"Sample Rate,{RATE} hertz", "", "", "Lead,Lead I", "Unit,\u00b5V", ""]
        return lines + [f"{value:.3f}" for value in x[:, 0]]

    @pytest.mark.parametrize("kind", ["polar", "opensignals", "watch"])
    def test_is_lead_one(self, bundle: Path, x: Samples, right: Outcome, tmp_path: Path, kind: str) -> None:
        path = write(tmp_path / "a.txt", getattr(self, kind)(x))
        refused = run(bundle, path)
        assert_refused(refused, "no lead II, III, aVR", "--allow-missing")
        assert "Ann" not in refused.stderr and "Other" not in refused.stderr
        found = stream(bundle, path, "--allow-missing")
        assert not found.events and found.times == right.times
        assert np.allclose(found.probabilities, right.probabilities, atol=2e-3)
        assert "Ann" not in "".join(found.said)


@pytest.fixture(scope="session")
def holter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return named_leads(tmp_path_factory.mktemp("holter"), ["MLII", "V5"])


class TestTwoRecorders:
    """Which call the leads of a bundle of MLII and V5 differently."""

    @pytest.fixture
    def paths(self, x: Samples, tmp_path: Path) -> tuple[Path, Path]:
        samples = x[:, [1, 10]]
        return npz(tmp_path / "a.npz", samples, ["MLII", "V5"]), npz(tmp_path / "b.npz", samples, ["II", "V"])

    @pytest.mark.parametrize("prefix", ["", "b:", "b.npz:"])
    def test_rename_leads_where_they_are(self, holter: Path, paths: tuple[Path, Path], prefix: str) -> None:
        found = stream(holter, *paths, "--lead", f"{prefix}MLII=II", "--lead", f"{prefix}V5=V")
        mine, other = (
            [each["probabilities"] for each in found.decisions if each["source"] == str(path)]
            for path in paths
        )
        assert len(mine) == 20 and mine == other

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("MLII=II",), "b.npz: no lead V5; the source has II, V"),
            (("a:MLII=II", "V5=V"), "a.npz: has no lead II; it has MLII, V5"),
            (("MLII=II", "V5=V", "a:V5=Z"), "a.npz: has no lead Z; it has MLII, V5"),
            (("MLII=II", "V5=V", "c:MLII=II"), "--lead c:MLII=II: no source has that name or that lead"),
        ],
    )
    def test_refused_where_they_are_not(
        self, holter: Path, paths: tuple[Path, Path], options: tuple[str, ...], message: str
    ) -> None:
        given = [part for each in options for part in ("--lead", each)]
        assert_refused(run(holter, *paths, *given), message)
