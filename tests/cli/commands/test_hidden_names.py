"""No message, event or line of output has a name of a person in it that a recording has anywhere.

Every text of every format is the name here: of patients, leads, units, comments, files and cells.
"""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import ecg_files
from tests.cli.commands.test_stream import run
from tests.hostile_files import damaged
from tests.runtime.conftest import two_leads

__all__ = ["two_leads"]

FIRST, LAST = "Quuxbert", "Zylophan"
NAME = f"{FIRST} {LAST}"
# A part of the name is one too: files are cut and damaged.
_NAME = re.compile("quux|uxbe|bert|zylo|loph|phan", re.IGNORECASE)
X = ecg_files.numbers(500, 3)
Files = dict[str, bytes]


def named(content: bytes, *fields: str) -> bytes:
    """Puts the name in the place of words, and as much of it as fits where the length is fixed."""
    for field in fields:
        content = content.replace(field.encode(), NAME.encode()[: max(len(field), 8)])
    return content


def wfdb() -> Iterator[Files]:
    data = X.astype("<i2").tobytes()
    lead = f"a.dat 16 1000/mV 16 0 0 0 0 {NAME}"
    for lines in (
        ["a 3 250 500", lead, lead.replace("1000/mV", f"1000/{LAST}"), lead, f"# {NAME}"],
        ["a 3 250 500", f"{FIRST}.dat 16 1000/mV 16 0 0 0 0 I", lead, lead],
        ["a 3 250 500", lead, lead, f"a.dat 16 {LAST} 16 0 0 0 0 I"],
        [f"{NAME} 3 250 500", lead, lead, lead],
        ["a 3 250 500 10:00:00 01/05/2024", f"a.dat {FIRST} 1000 16", lead, lead],
        ["a/2 3 250 500", f"{FIRST} 250", f"{LAST} 250"],
        [f"a 3 {LAST} {FIRST}", lead, lead, lead],
    ):
        yield {"a.hea": "\n".join(lines).encode(), "a.dat": data}


def edf(suffix: str, bits: int) -> Iterator[Files]:
    for kind, unit, label in (
        ("", "uV", "ECG I"), ("EDF+D", "uV", LAST), ("", LAST, "ECG I"), ("EDF+C", "uV", NAME),
    ):  # fmt: skip
        parts = [(label, unit, X[:, 0].reshape(5, 100)), (f"{FIRST} II", "uV", X[:, 1].reshape(5, 100))]
        times = [0, 1, 5, 6, 7] if kind else None
        content = bytearray(ecg_files.edf(parts, bits=bits, kind=kind, times=times))
        content[8:88] = content[88:168] = NAME.encode().ljust(80)
        count = int(content[252:256])
        for field in (16, 16 + 80 + 5 * 8):  # transducers and filters
            at = 256 + field * count
            content[at : at + 80] = NAME.encode().ljust(80)
        yield {f"a{suffix}": bytes(content)}


def dicom() -> Iterator[Files]:
    for meanings, unit in ((("", "Lead I"), "uV"), (("", NAME), "uV"), (("2:1", NAME), LAST)):
        groups = [ecg_files.dicom_group(X, 250, [meanings, ("", NAME), ("", LAST)], [(1, 1, 0, unit)] * 3)]
        yield {"a.dcm": named(ecg_files.dicom_file(groups), "Other^An")}


def xml(make: Callable[..., bytes], *words: str) -> Iterator[Files]:
    content = make()
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = content.decode("utf-16" if utf16 else "utf-8")
    for word in ("", *words):
        changed = text.replace("Ann Other", NAME).replace("Other", LAST).replace(word or "\0", NAME)
        yield {"a.xml": changed.encode("utf-16" if utf16 else "utf-8")}


def ishne() -> Iterator[Files]:
    yield {"a.ecg": named(ecg_files.ishne(X, 250), "Ann     ", "Other   ", "recorder")}


def npz() -> Iterator[Files]:
    for arrays in (
        {"samples": X, "leads": ["I", NAME, "II"], "rate": 250, "unit": "uV"},
        {"samples": X, "leads": ["I", "II", "V1"], "rate": 250, "unit": LAST},
        {"samples": X, NAME: [1], "rate": 250, "unit": "uV"},
        {FIRST: X},
        {"samples": np.array([NAME]), "leads": [NAME], "rate": NAME, "unit": NAME},
    ):
        file = io.BytesIO()
        np.savez(file, **arrays)
        yield {"a.npz": file.getvalue()}


def table() -> Iterator[Files]:
    rows = "".join(f"{i / 250},{a},{b}\n" for i, (a, b, _) in enumerate(X.tolist()))
    for text in (
        f"Name,{NAME}\nUnit,uV\ntime,I,II\n{rows}",
        f"# {NAME}\ntime,I,{NAME}\n{rows}",
        f"time,{FIRST},{LAST}\n{rows}",
        f"{NAME}\n{rows}",
        f"time,I,II\n{rows}{NAME}\n{FIRST},{LAST},1\n{rows}0.5,{NAME},1\n{NAME},1,1\n",
        f"time,I,II [{LAST}]\n{rows}",
        f"time,I,II\ns,uV,{LAST}\n{rows}",
        f'# OpenSignals {{\n# {{"{NAME}": {{"device": "{NAME}", "column": ["{NAME}"]}}}}\n{rows}',
        f"%OpenBCI {NAME}\n%Sample Rate = {NAME}\n{NAME}, EXG Channel 0, {LAST}\n{rows}",
        f"time,I,II\n{rows}time,{FIRST},{LAST}\n{rows}",
    ):
        yield {"a.csv": text.encode()}


def json_lines() -> Iterator[Files]:
    header: dict[str, Any] = {"leads": ["I", "II"], "rate": 250, "unit": "uV", "patient": NAME}
    rows = "".join(f"[{a}, {b}]\n" for a, b, _ in X.tolist())
    for change in (
        {}, {"leads": ["I", NAME]}, {"leads": [NAME, LAST]}, {"unit": NAME}, {"rate": NAME}, {NAME: NAME},
        {"unit": [LAST, "uV"]}, {"leads": NAME},
    ):  # fmt: skip
        middle = f'{NAME}\n["{NAME}", 1]\n{{"time": "{NAME}", "samples": [[1, 2]]}}\n{{"{NAME}": 1}}\n'
        yield {"a.jsonl": (json.dumps(header | change) + f"\n{rows}{middle}{rows}").encode()}


FORMATS: dict[str, Callable[[], Iterator[Files]]] = {
    "wfdb": wfdb,
    "edf": lambda: edf(".edf", 16),
    "bdf": lambda: edf(".bdf", 24),
    "dicom": dicom,
    "aecg": lambda: xml(lambda: ecg_files.aecg(X, 250, ("I", "II", "V1")), "MDC_ECG_LEAD_II", "uV", "digits"),
    "muse": lambda: xml(lambda: ecg_files.muse(X, 250, ("I", "II", "V1")), ">II<", "MICROVOLTS", "Rhythm"),
    "philips": lambda: xml(lambda: ecg_files.philips(ecg_files.numbers(300)), "II III", "XLI", "Base64"),
    "ishne": ishne,
    "npz": npz,
    "table": table,
    "json lines": json_lines,
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_are_in_no_output(two_leads: Path, tmp_path: Path, form: str) -> None:
    draw, wrong, outcomes = random.Random(0), [], set()
    for files in FORMATS[form]():
        target = min(files)  # the header, for WFDB
        versions = [("whole", files[target]), ("its start", files[target][:60])]
        versions += [damaged(files[target], draw) for _ in range(4 if len(files[target]) < 1 << 17 else 2)]
        for change, content in versions:
            for name, data in (files | {target: content}).items():
                (tmp_path / name).write_bytes(data)
            path = tmp_path / ("a" if "a.hea" in files else target)
            for options in ((), ("--allow-missing", "--rate", 250, "--unit", "uV", "--lead", "I=#1")):
                result = run(two_leads, path, *options)
                outcomes.add(result.exit_code)
                if _NAME.search(result.stdout + result.stderr) or "Traceback" in result.output:
                    wrong.append(f"{change}: {result.output[:600]}")
    assert not wrong, "\n".join(wrong[:10])
    assert outcomes >= {0, 2}, "some are read, and some are refused"
