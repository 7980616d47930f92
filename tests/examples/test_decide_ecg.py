"""The C++ example of decisions at a device's rate gives what Python gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from multires_edge.cli.main import main
from multires_edge.export import export_bundle
from multires_edge.runtime import Bundle, EcgStream, open_bundle
from tests.conftest import ROOT, SMALL, random_net, save_published
from tests.examples.conftest import Start
from tests.runtime.conftest import CARD, LUDB, beats


def csv(leads: list[str], samples: NDArray[np.float64]) -> str:
    lines = [",".join(leads), *(",".join(f"{value:.17g}" for value in row) for row in samples)]
    return "\n".join(lines) + "\n"


def decisions(
    decide: Start, bundle: Path, text: str, *options: object
) -> tuple[list[str], NDArray[np.float64]]:
    result = decide(text, bundle, *options)
    assert (result.returncode, result.stderr) == (0, "")
    header, *lines = result.stdout.splitlines()
    return header.split(","), np.array([[float(x) for x in line.split(",")] for line in lines])


def test_equals_the_command_on_a_real_record(
    decide: Start, twelve_leads: Bundle, ludb: tuple[NDArray[np.float64], list[str]]
) -> None:
    samples, names = ludb
    header, printed = decisions(decide, twelve_leads.path, csv(names, samples), 500)
    result = CliRunner().invoke(main, ["stream", str(twelve_leads.path), str(LUDB)])
    entries = [json.loads(line) for line in result.stdout.splitlines()]
    expected = np.array([[e["time"], *e["probabilities"].values()] for e in entries])
    assert header == ["time", *entries[0]["probabilities"]]
    assert printed.shape == expected.shape == (20, 6)
    assert np.abs(printed - expected).max() < 1e-4


@pytest.mark.parametrize("rate", [50, 100, 128, 250, 257, 333.3, 360, 1000])
@pytest.mark.parametrize("window", [0, 1])
def test_equals_the_library_at_any_rate(decide: Start, opened: Bundle, rate: float, window: int) -> None:
    samples = beats(4.3, rate, seed=3)
    _, printed = decisions(
        decide, opened.path, csv(["x", "II", "i"], samples[:, [0, 1, 0]]), rate, 0.3, window
    )
    pool = f"window:{window}s" if window else "cumulative"
    stream = EcgStream(opened, leads=["I", "II"], rate=rate, every=0.3, pool=pool)
    expected = stream.feed(samples) + stream.finish()
    assert len(printed) == len(expected) == 14
    assert np.abs(printed[:, 0] - [d.time for d in expected]).max() < 1e-6
    assert np.abs(printed[:, 1:] - [list((d.probabilities or {}).values()) for d in expected]).max() < 1e-5


@pytest.mark.parametrize(
    "high_pass",
    [
        {"kind": "butterworth", "corner": 0.25, "order": 1},
        {"kind": "butterworth", "corner": 0.1, "order": 4},
        {"kind": "linear-phase", "corner": 0.5, "delay": 1.0},
    ],
    ids=str,
)
def test_the_cards_high_pass(decide: Start, tmp_path: Path, high_pass: dict[str, object]) -> None:
    card = CARD | {"preprocessing": CARD["preprocessing"] | {"high_pass": high_pass}}
    (tmp_path / "card.json").write_text(json.dumps(card))
    checkpoint = save_published(random_net(SMALL, seed=3), tmp_path)
    path = export_bundle(checkpoint, tmp_path / "a.bundle", card=tmp_path / "card.json").path
    samples = beats(6, 500, seed=3) + np.array([5.0, -1.0])
    _, printed = decisions(decide, path, csv(["I", "II"], samples), 500)
    stream = EcgStream(open_bundle(path), leads=["I", "II"], rate=500)
    expected = stream.feed(samples) + stream.finish()
    assert len(printed) == len(expected) == 12
    assert np.abs(printed[:, 1:] - [list((d.probabilities or {}).values()) for d in expected]).max() < 1e-5


def test_the_recording_that_ships(decide: Start, twelve_leads: Bundle) -> None:
    path = ROOT / "examples" / "ecg.csv"
    command = ["stream", str(twelve_leads.path), str(path), "--rate", "100", "--unit", "mV"]
    result = CliRunner().invoke(main, command)
    entries = [json.loads(line) for line in result.stdout.splitlines()]
    expected = np.array([[e["time"], *e["probabilities"].values()] for e in entries])
    with_names = path.read_text()
    for text in (with_names, with_names.split("\n", 1)[1], with_names.replace("\n", "\r\n")):
        _, printed = decisions(decide, twelve_leads.path, text, 100)
        assert printed.shape == expected.shape == (10, 6)
        assert np.abs(printed - expected).max() < 1e-4


@pytest.mark.parametrize(
    ("text", "options", "complaint"),
    [
        ("I\n1\n", (500,), "line 1: has no lead II, only I"),
        ("I,II,i\n1,2,3\n", (500,), "line 1: names lead I twice"),
        ("", (500,), "no samples on standard input"),
        ("I,II\n", (500,), "no samples on standard input"),
        ("1,2,3\n", (500,), "line 1: has 3 columns, expected 2"),
        ("I,II\n1,2\n1\n", (500,), "line 3: has 1 columns, expected 2"),
        ("I,II\n1,\n", (500,), "line 2: column 2 is not a finite number"),
        ("I,II\n1,nan\n", (500,), "line 2: column 2 is not a finite number"),
        ("1,2\n", (5,), "rate must be 50 to 2000 Hz"),
        ("1,2\n", ("x",), "RATE is x"),
        ("1,2\n", (500, 0.005), "EVERY is not a whole number"),
        ("1,2\n", (500, 0), "EVERY is less than a sample"),
        ("1,2\n", (), "--help"),
    ],
)
def test_bad_input_is_one_line(
    decide: Start, opened: Bundle, text: str, options: tuple[object, ...], complaint: str
) -> None:
    result = decide(text, opened.path, *options)
    assert result.returncode == 2
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_output_that_cannot_be_written_is_an_error(decide: Start, opened: Bundle) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full:
        result = decide(csv(["I", "II"], beats(1, 500)), opened.path, 500, stdout=full)
    assert result.returncode == 2
    assert "standard output cannot be written" in result.stderr


def test_outputs_without_labels_have_numbers(decide: Start, opened: Bundle, tmp_path: Path) -> None:
    from multires_edge.export import export_bundle

    (tmp_path / "card.json").write_text(json.dumps({"preprocessing": CARD["preprocessing"]}))
    checkpoint = opened.path.parent / "ckpt.pth"
    bare = export_bundle(checkpoint, tmp_path / "bare.bundle", card=tmp_path / "card.json").path
    header, printed = decisions(decide, bare, csv(["I", "II"], beats(1, 500)), 500)
    assert header == ["time", "0", "1", "2"] and printed.shape == (2, 4)
