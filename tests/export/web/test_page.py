"""A page decides what `multires-edge stream` decides; here its modules run in node."""

from __future__ import annotations

import json
import random
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb
from click.testing import CliRunner
from numpy.typing import NDArray

from multires_edge.cli.main import main
from multires_edge.export import export_bundle
from multires_edge.export.web.compiler import cache_folder
from multires_edge.export.web.page import write_page
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.ecg.lead_names import plain_names
from tests.conftest import ROOT, SMALL, random_net, save_published
from tests.ecg_files import edf
from tests.export.web.harness import answers, node, run_node
from tests.runtime.conftest import CARD, LUDB, beats

pytestmark = [pytest.mark.native, pytest.mark.slow]

RECORDINGS = 36


@dataclass(frozen=True)
class Recording:
    """A file, and how the command and the page are told to read it."""

    path: Path  # as the command takes it
    files: list[Path]
    table: bool
    rate: float
    unit: str

    @property
    def options(self) -> list[str]:
        return ["--rate", f"{self.rate:g}", "--unit", self.unit] if self.table else []

    @property
    def question(self) -> dict[str, Any]:
        told = {"rate": self.rate, "unit": self.unit} if self.table else {}
        return {"files": list(map(str, self.files)), "allowMissing": True, **told}


def signal(draw: random.Random, rate: float, leads: int) -> NDArray[np.float64]:
    """Leads (time, leads) in mV with every fault that a recording can have."""
    x = beats(draw.choice([5, 12, 50]) * draw.uniform(0.6, 1), rate, leads, seed=draw.getrandbits(32))
    x *= draw.choice([1.0, 1.0, 0.02])
    noise = np.random.default_rng(draw.getrandbits(32))
    for lead in range(leads):
        start = draw.randrange(len(x))
        part = x[start : start + round(draw.choice([0.02, 1, 4, 30]) * draw.uniform(0.6, 1) * rate), lead]
        match draw.randrange(10):
            case 0:
                part[:] = np.nan
            case 1:
                part[:] = part[0]
            case 2:
                part[::7] = draw.choice([-30.0, 200.0])  # spikes
            case 3:
                part += draw.choice([-3.0, 0.8, 12.0])  # another level
            case 4:
                part[:] = np.clip(3 * part, -1.2, 1.2)
            case 5:
                part += noise.normal(0, 0.2, len(part))
            case 6:
                x[:, lead] = draw.choice([np.nan, 0.0])
            case 7:
                x[:, lead] += 0.8  # an offset
    return x


def write(draw: random.Random, folder: Path, name: str, leads: tuple[str, ...]) -> Recording:
    kind = draw.choice(["csv", "16", "212", "edf"])
    rate = draw.choice([50, 100, 128, 250, 257, 360, 500, 1000])
    chosen = draw.sample(leads, draw.randint(2, len(leads)))
    if not {"I", "II"} & set(chosen):
        chosen[0] = "I"
    x = signal(draw, rate, len(chosen))
    unit = draw.choice(["uV", "mV"])
    if kind == "csv":
        values = x * (1000 if unit == "uV" else 1)
        rows = [",".join("" if np.isnan(value) else f"{value:.7g}" for value in row) for row in values]
        named = [
            draw.choice(["{}", "lead {}", "ECG {}", "{} [" + unit + "]"]).format(lead) for lead in chosen
        ]
        path = folder / f"{name}.csv"
        path.write_text("\n".join([",".join(named), *rows]) + draw.choice(["", "\n", "\r\n"]))
        return Recording(path, [path], True, rate, unit)
    if kind == "edf":
        numbers = np.nan_to_num(1000 * x).clip(-32000, 32000).astype(np.int16)
        whole = len(numbers) // rate * rate
        signals = [
            (f"ECG {lead}", draw.choice(["uV", "µV"]), numbers[:whole, i].reshape(-1, rate))
            for i, lead in enumerate(chosen)
        ]
        path = folder / f"{name}.edf"
        path.write_bytes(edf(signals))
        return Recording(path, [path], False, rate, "uV")
    # In twelve bits of 5 uV a spike does not fit.
    scale = 1000 if unit == "uV" else 1
    limited = x if kind == "16" else x.clip(-9, 9)
    gain = 200.0 if kind == "212" else 100.0
    wfdb.wrsamp(
        name, fs=rate, units=[unit] * len(chosen), sig_name=chosen, p_signal=limited * scale,
        fmt=[kind] * len(chosen), adc_gain=[gain / scale] * len(chosen),
        baseline=[draw.choice([0, 7])] * len(chosen), write_dir=str(folder),
    )  # fmt: skip
    path = folder / name
    return Recording(path, [path.with_suffix(".hea"), path.with_suffix(".dat")], False, rate, unit)


def by_command(bundle: Bundle, recording: Recording, *options: str) -> list[dict[str, Any]]:
    command = [
        "stream",
        str(bundle.path),
        str(recording.path),
        *recording.options,
        "--allow-missing",
        *options,
    ]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def differences(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> list[float]:
    """Of probabilities; everything else must be equal."""
    assert len(found) == len(wanted) > 0
    apart = []
    for one, other in zip(found, wanted, strict=True):
        ours, theirs = one.pop("probabilities"), other.pop("probabilities")
        assert {**one, "source": ""} == {**other, "source": ""}
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert list(ours) == list(theirs)
            apart += [abs(ours[label] - theirs[label]) for label in ours]
    return apart


def compare(page: Path, bundle: Bundle, recordings: list[Recording]) -> list[dict[str, Any]]:
    """The page's answers, which are those of the command."""
    found = answers(page, [recording.question for recording in recordings])
    for answer, recording in zip(found, recordings, strict=True):
        assert "decisions" in answer, (recording.path, answer)
        copies = [dict(decision) for decision in answer["decisions"]]
        assert max(differences(copies, by_command(bundle, recording)), default=0) <= 1e-5, recording.path
    return found


def test_a_real_record_faster_than_real_time(demo_page: Path, twelve_leads: Bundle) -> None:
    real = Recording(LUDB, [LUDB.with_suffix(".hea"), LUDB.with_suffix(".dat")], False, 500, "mV")
    shipped = ROOT / "examples" / "ecg.csv"
    table = Recording(shipped, [shipped], True, 100, "mV")
    # The first time includes the compiler of WebAssembly.
    found = compare(demo_page, twelve_leads, [real, table, real, real])
    assert [len(answer["decisions"]) for answer in found] == [20, 10, 20, 20]
    assert max(answer["times"] for answer in found) > 100


def test_any_recording(demo_page: Path, twelve_leads: Bundle, tmp_path: Path) -> None:
    draw = random.Random(5)
    leads = twelve_leads.preprocessing.channels if twelve_leads.preprocessing else ()
    recordings = [write(draw, tmp_path, f"r{i}", leads) for i in range(RECORDINGS)]
    found = compare(demo_page, twelve_leads, recordings)
    decisions = [decision for answer in found for decision in answer["decisions"]]
    flags = {flag for decision in decisions for flags in decision["quality"].values() for flag in flags}
    # With the card's filter, offsets and wander do not reach the network.
    assert flags == {
        *(
            "missing",
            "nan",
            "flat",
            "clipped",
            "noise",
            "implausible",
            "no_beat",
            "contradiction",
            "arms_swapped",
        )
    }
    assert {"no_signal" in decision for decision in decisions} == {True, False}


@pytest.mark.parametrize(
    ("high_pass", "output"),
    [(None, "softmax"), ({"kind": "butterworth", "corner": 0.25, "order": 3}, "sigmoid")],
    ids=["no filter", "butterworth"],
)
def test_other_cards(high_pass: dict[str, Any] | None, output: str, tmp_path: Path) -> None:
    node()
    preprocessing = (
        CARD["preprocessing"] | {"std": [0.2, 0.3]} | ({"high_pass": high_pass} if high_pass else {})
    )
    card = tmp_path / "card.json"
    card.write_text(json.dumps(CARD | {"preprocessing": preprocessing, "output": output}))
    checkpoint = save_published(random_net(SMALL, seed=3), tmp_path)
    bundle = open_bundle(export_bundle(checkpoint, tmp_path / "a.bundle", card=card, pool="window:300").path)
    write_page(bundle, tmp_path / "a.page")
    draw = random.Random(zlib.crc32(output.encode()))
    recordings = [write(draw, tmp_path, f"r{i}", ("I", "II", "V2")) for i in range(RECORDINGS // 2)]
    # A lead that is away for longer than its last value is held.
    rows = [
        f"{one:.6g},{'' if 450 <= t < 3000 else f'{two:.6g}'}" for t, (one, two) in enumerate(beats(40, 100))
    ]
    away = tmp_path / "away.csv"
    away.write_text("\n".join(["I,II", *rows]))
    recordings.append(Recording(away, [away], True, 100, "mV"))
    found = compare(tmp_path / "a.page", bundle, recordings)
    decisions = [decision for answer in found for decision in answer["decisions"]]
    flags = {flag for decision in decisions for flags in decision["quality"].values() for flag in flags}
    assert ({"offset", "wander"} <= flags) == (high_pass is None)


def test_names_of_leads(demo_page: Path) -> None:
    draw = random.Random(1)
    parts = (
        *(
            "I",
            "II",
            "iii",
            "aVR",
            "avl",
            "V1",
            "v6",
            "C2",
            "DI",
            "MLII",
            "LA-RA",
            "LL-RA",
            "Fp1",
            "O2",
            "-aVR",
            "ecg",
        ),
        *(
            "lead",
            "ECG",
            "EKG",
            "[mV]",
            "(uV)",
            "in mV",
            "_uV",
            "V",
            "resp",
            "Ableitung",
            "dérivation",
            "MDC_ECG_LEAD_I",
        ),
        *("1", "ch 3", "µV", "#", "Größe", " ", ""),
    )

    def name() -> str:
        joints = ("", " ", "_", "-", ".")
        return "".join(draw.choice(joints) + draw.choice(parts) for _ in range(draw.randint(1, 3)))

    names = [[name() for _ in range(draw.randint(1, 4))] for _ in range(1500)]
    assert run_node("decide.mjs", demo_page, given={"names": names})["plain"] == [
        plain_names(each) for each in names
    ]


def test_files_that_are_refused(demo_page: Path, tmp_path: Path) -> None:
    hea, dat = LUDB.with_suffix(".hea").read_text(), LUDB.with_suffix(".dat")
    table = {"rate": 100, "unit": "mV"}
    signals = [("ECG I", "uV", np.zeros((3, 100), np.int16)), ("ECG II", "uV", np.zeros((3, 100), np.int16))]
    cases: list[tuple[dict[str, bytes | str], dict[str, Any], str]] = [
        ({"a.hea": hea}, {}, "names 1.dat; drop it together"),
        ({"1.dat": dat.read_bytes()}, {}, "drop the header"),
        ({"a.hea": "", "1.dat": b""}, {}, "header is empty"),
        ({"a.hea": "a/3 12 500 10\nb 10\n"}, {}, "several segments"),
        ({"a.hea": hea.replace(" 16 ", " 311 "), "1.dat": b""}, {}, "format 311 is not read here"),
        ({"a.hea": hea.replace(" 16 ", " 16x4 "), "1.dat": b""}, {}, "several rates"),
        ({"a.hea": hea.replace("1 12 500", "1 99 500"), "1.dat": b""}, {}, "number of signals"),
        ({"a.hea": hea, "1.dat": b"\0"}, {}, "no samples"),
        ({"a.hea": hea.replace("1 12 500 ", "1 12 20 "), "1.dat": dat.read_bytes()}, {}, "rate is 20 Hz"),
        ({"a.edf": edf(signals, kind="EDF+D")}, {}, "EDF+D"),
        ({"a.edf": edf(signals)[:600]}, {}, "ends in its header"),
        ({"a.edf": edf(signals)}, {}, "no lead V1"),
        ({"a.edf": edf(signals).replace(b"uV", b"xx")}, {}, "no signal in uV"),
        ({"a.dcm": b"DICM"}, {}, "reads a WFDB header"),
        ({"a.csv": b"\0\1\2"}, table, "reads a WFDB header"),
        ({"a.csv": "I,II\n1,2\n"}, {}, "does not say its rate and unit"),
        ({"a.csv": ""}, table, "is empty"),
        ({"a.csv": "I,II\n"}, table, "no samples"),
        ({"a.csv": "I,II\n1,2\n1\n"}, table, "line 3 has 1 cells, expected 2"),
        ({"a.csv": "I,II\n1,x\n"}, table, "line 2, column 2"),
        ({"a.csv": "time,I,II\n0,1,2\n"}, table, "times are not read here"),
        ({"a.csv": "I,ii,I\n1,2,3\n"}, {**table, "allowMissing": True}, "several leads match I"),
        ({"a.csv": "x,y\n1,2\n"}, {**table, "allowMissing": True}, "it has x, y"),
        ({"a.csv": "I,II\n1,2\n"}, {**table, "unit": "furlong", "allowMissing": True}, "unit of lead 1"),
        ({"a.csv": '{"leads": ["I"]}\n'}, table, "JSON is not read here"),
        ({}, {}, "drop one recording"),
    ]  # fmt: skip
    questions = []
    for i, (files, told, _) in enumerate(cases):
        (tmp_path / str(i)).mkdir()
        for name, content in files.items():
            (tmp_path / str(i) / name).write_bytes(
                content if isinstance(content, bytes) else content.encode()
            )
        questions.append({"files": [str(tmp_path / str(i) / name) for name in files], **told})
    for answer, (files, _, message) in zip(answers(demo_page, questions), cases, strict=True):
        assert message in answer.get("refused", ""), (list(files), answer)
        assert len(answer["refused"].splitlines()) == 1


def test_the_end_of_a_truncated_file_is_told(demo_page: Path, twelve_leads: Bundle, tmp_path: Path) -> None:
    shutil.copy(LUDB.with_suffix(".hea"), tmp_path / "1.hea")
    (tmp_path / "1.dat").write_bytes(LUDB.with_suffix(".dat").read_bytes()[:-30001])
    (answer,) = answers(demo_page, [{"files": [str(tmp_path / "1.hea"), str(tmp_path / "1.dat")]}])
    assert answer["notes"] == ["the header names 5000 samples, and the file has 3749"]
    result = CliRunner().invoke(main, ["stream", str(twelve_leads.path), str(tmp_path / "1")])
    wanted = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    decided = [each for each in wanted if each["type"] == "decision"]
    assert max(differences(answer["decisions"], decided)) <= 1e-5


def test_the_golden_data(demo_page: Path, tmp_path: Path) -> None:
    check = run_node("decide.mjs", demo_page, given={})["golden"]
    assert check["passed"] and 0 < check["error"] <= check["limit"] == 1e-5
    # A wrong output is noticed.
    shutil.copytree(demo_page, tmp_path / "page")
    golden = tmp_path / "page" / "golden-y.bin"
    wrong = np.fromfile(golden, "<f8")
    wrong[77] += 1e-3
    wrong.tofile(golden)
    assert not run_node("decide.mjs", tmp_path / "page", given={})["golden"]["passed"]


def test_the_compiler_works_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZIG_GLOBAL_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder(tmp_path / "other") == tmp_path / "cache" / "zig"
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder(tmp_path / "other") == tmp_path / "other"
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path / "given"))
    assert cache_folder(tmp_path / "other") == tmp_path / "given"
