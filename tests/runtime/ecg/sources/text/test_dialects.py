"""Tables as programs and people write them: what is read of each, and what is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from multires_edge.base.errors import DataError
from multires_edge.runtime.ecg.lead_names import plain_names
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Format, Note, Samples, Source

RATE, COUNT = 250, 400
X = np.random.default_rng(0).normal(size=(COUNT, 2)).round(3)
NOTHING, UNIT = Format(), Format(unit="mV")
BOTH = Format(RATE, "mV")


def read(source: Source) -> np.ndarray:
    """The samples (n, leads) of a source that has no events."""
    values = []
    while not source.ended:
        for piece in source.read(1000):
            assert isinstance(piece, Samples) and not isinstance(piece, Note), piece
            values.append(piece.values)
    source.close()
    return np.concatenate(values)


def table(head: str, row: Callable[[int], str], end: str = "\n") -> str:
    return head + "".join(row(i) + end for i in range(COUNT))


def comma(text: str) -> str:
    return text.replace(".", ",")


def pair(i: int, separator: str = ",", scale: float = 1) -> str:
    return separator.join(f"{value:g}" for value in X[i] * scale)


def day(i: int) -> str:
    return f"10:00:{i / RATE:06.3f}"


TABLES = {
    "plain": (table("I,II\n", pair), BOTH),
    "semicolons and decimal commas": (table("I;II\n", lambda i: comma(pair(i, ";"))), BOTH),
    "tabs": (table("I\tII\n", lambda i: pair(i, "\t")), BOTH),
    "bars": (table("I|II\n", lambda i: pair(i, "|")), BOTH),
    "blanks": (table("  I   II\n", lambda i: f" {pair(i, '  ')}"), BOTH),
    "lines of Windows": (table("I,II\r\n", pair, "\r\n"), BOTH),
    "separators at the end": (table("I,II\n", lambda i: pair(i) + ","), BOTH),
    "separators at the end of all lines": (table("I;II;\n", lambda i: pair(i, ";") + ";"), BOTH),
    "quotes": (table('"","I","II"\n', lambda i: f'"{i + 1}",{pair(i)}'), BOTH),
    "decimal commas in quotes": (
        table("'Time','I','II'\n", lambda i: ",".join(f'"{comma(f"{v:.3f}")}"' for v in (i / RATE, *X[i]))),
        UNIT,
    ),
    "Excel's hint": (table("sep=;\nZeit;I;II\n", lambda i: comma(f"{i / RATE:.3f};{pair(i, ';')}")), UNIT),
    "an index without a name": (table(",I,II\n", lambda i: f"{i},{pair(i)}"), BOTH),
    "R, whose header lacks it": (table('"I" "II"\n', lambda i: f'"{i + 1}" {pair(i, " ")}'), BOTH),
    "an index with a name": (table("Sample Index,I,II\n", lambda i: f"{i % 256},{pair(i)}"), BOTH),
    "a header in a comment": (table("# I II\n", lambda i: pair(i, " ")), BOTH),
    "comments of Octave": (table("% from Octave\n% time,I,II\n", lambda i: f"{i / RATE},{pair(i)}"), UNIT),
    "no header": (table("", pair), Format(RATE, "mV", ["I", "II"])),
    "no header, with times": (table("", lambda i: f"{i / RATE},{pair(i)}"), Format(None, "mV", ["I", "II"])),
    "no header, with an index": (table("", lambda i: f"{i},{pair(i)}"), Format(RATE, "mV", ["I", "II"])),
    "rows of text": (table("time,I,II,rhythm\n", lambda i: f"{i / RATE},{pair(i)},AFIB"), UNIT),
    "a few words": (
        table("time,I,II,note\n", lambda i: f"{i / RATE},{pair(i)},{'' if i % 90 else 'N'}"),
        UNIT,
    ),
    "ms": (table("time_ms,I,II\n", lambda i: f"{4 * i},{pair(i)}"), UNIT),
    "us": (table("timestamp_us,I,II\n", lambda i: f"{1_700_000_000_000_000 + 4000 * i},{pair(i)}"), UNIT),
    "ns": (table("ts,I,II\n", lambda i: f"{1_700_000_000_000_000_000 + 4_000_000 * i},{pair(i)}"), UNIT),
    "ISO 8601": (table("datetime,I,II\n", lambda i: f"2024-05-01T{day(i)}Z,{pair(i)}"), UNIT),
    "a zone": (table("utc,I,II\n", lambda i: f"2024-05-01 {day(i)}+02:00,{pair(i)}"), UNIT),
    "two columns": (
        table("Datum;Uhrzeit;I;II\n", lambda i: comma(f"1,5,2024;{day(i)};{pair(i, ';')}")),
        UNIT,
    ),
    "seconds that many lines share": (
        table("Date,I,II\n", lambda i: f"2024-05-01 10:00:{i // RATE:02d},{pair(i)}"),
        BOTH,
    ),
    "units in names": (table("time (s),ECG I [mV],ECG_II_mV\n", lambda i: f"{i / RATE},{pair(i)}"), NOTHING),
    "microvolt in Latin-1": (
        table(
            "Time (ms)\tLead I (\u00b5V)\tLead II (\u00b5V)\n", lambda i: f"{4 * i}\t{pair(i, chr(9), 1000)}"
        ),
        NOTHING,
    ),
    "a row of units": (
        table(
            "'Elapsed time','I','II'\n'hh:mm:ss.mmm','mV','mV'\n", lambda i: f"'0:{i / RATE:06.3f}',{pair(i)}"
        ),
        NOTHING,
    ),
    "times and dates in brackets": (
        table(
            "'Time and date','I','II'\n'hh:mm:ss.mmm','mV','mV'\n",
            lambda i: f"'[{day(i)} 01/05/2024]',{pair(i)}",
        ),
        NOTHING,
    ),
    "rdsamp": (
        table("   sample #      I     II\n              (mV)   (mV)\n", lambda i: f"{i:9d} {pair(i, '   ')}"),
        Format(RATE),
    ),
    "properties in front": (
        table("Subject: Ann Other\nSampling frequency: 250 Hz\nUnit: mV\n\nI,II\n", pair),
        NOTHING,
    ),
    "a minus of typesetters": (table("I,II\n", lambda i: pair(i).replace("-", "\u2212")), BOTH),
    "OpenBCI": (
        table(
            "%OpenBCI Raw EXG Data\n%Number of channels = 2\n%Sample Rate = 250 Hz\n"
            "Sample Index, EXG Channel 0, EXG Channel 1, Accel Channel 0, Other, Timestamp, "
            "Timestamp (Formatted)\n",
            lambda i: (
                f"{i % 256}, {pair(i, ', ', 1000)}, 0, 192.0, {1.65e9 + i / RATE:.3f}, 2022-06-08 {day(i)}"
            ),
        ),
        NOTHING,
    ),
    "OpenBCI of old": (
        table(
            "%OpenBCI Raw EEG Data\n%Number of channels = 2\n%Sample Rate = 250.0 Hz\n"
            "%First Column = SampleIndex\n",
            lambda i: f"{i % 256}, {pair(i, ', ', 1000)}, 0.1, 0.2, 0.3, {day(i)}",
        ),
        NOTHING,
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_that_is_read(tmp_path: Path, name: str) -> None:
    text, given = TABLES[name]
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode("latin-1" if "Latin" in name else "utf-8"))
    source = open_source(str(path), given)
    assert source.signal.rate == RATE and len(source.signal.leads) == 2
    unit = source.signal.unit
    assert np.allclose(read(source) / (1000 if unit == "uV" else 1), X, atol=1e-9)
    assert unit in ("mV", "uV")


def grouped(value: float, group: str, decimal: str, digits: int = 1) -> str:
    return f"{value:,.{digits}f}".translate({ord(","): group, ord("."): decimal})


@pytest.mark.parametrize("digits", [0, 1, 3])
@pytest.mark.parametrize(
    ("group", "decimal", "encoding"),
    [
        (".", ",", "utf-8"), ("'", ".", "utf-8"), ("\u2019", ".", "utf-8"), (" ", ",", "utf-8"),
        ("\u202f", ",", "utf-8"), ("\u00a0", ",", "cp1252"), (",", ".", "utf-8"),
    ],
)  # fmt: skip
def test_thousands(tmp_path: Path, group: str, decimal: str, encoding: str, digits: int) -> None:
    """As spreadsheets write them. Times tell what a mark means that could be either."""
    x = (2000 * X).round(digits)
    x[0] = [1234, -12345]
    separator = "\t" if decimal == "," else ","
    lines = ["time (s),I (\u00b5V),II (\u00b5V)".replace(",", separator)]
    for i, row in enumerate(x):
        values = [grouped(value, group, decimal, digits) for value in row]
        if separator == ",":
            values = [f'"{value}"' for value in values]
        lines.append(separator.join([f"{i / RATE:.3f}".replace(".", decimal), *values]))
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding)
    assert np.array_equal(read(open_source(str(tmp_path / "a.csv"))), x)


def test_a_mark_of_both_kinds_stands_in_front_of_fractions(tmp_path: Path) -> None:
    lines = [f"{i / RATE:.3f};{comma(f'{row[0]:.3f}')}" for i, row in enumerate(X)]
    (tmp_path / "a.csv").write_text("\n".join(["time;I [mV]", "0.000;1,234", *lines[1:]]))
    values = read(open_source(str(tmp_path / "a.csv")))[:, 0]
    assert values[0] == 1.234 and np.array_equal(values[1:], X[1:, 0])


class TestLaboratories:
    @pytest.mark.parametrize("mark", [".", ","])
    def test_labchart(self, tmp_path: Path, mark: str) -> None:
        head = "Interval=\t0.004 s\nExcelDateTime=\t4.5E+04\t01/05/2024\nTimeFormat=\tStartOfBlock\n"
        head += "ChannelTitle=\tECG I\tResp\nRange=\t10.00 mV\t1.0 V\nUnitName=\tmV\tV\n"
        lines = [f"{i / RATE:.3f}\t{pair(i, chr(9))}" for i in range(COUNT)]
        (tmp_path / "a.txt").write_text((head + "\n".join(lines)).replace(".", mark))
        source = open_source(str(tmp_path / "a.txt"))
        assert (source.signal.leads, source.signal.rate) == (["ECG I", "Resp"], RATE)
        assert source.signal.unit == ["mV", "V"] and np.allclose(read(source), X)

    def test_an_interval_and_a_unit_in_comments(self, tmp_path: Path) -> None:
        head = "% recorded by Ann Other\n% 4 msec/sample\n% unit: uV\n% I\tII\n"
        (tmp_path / "a.asc").write_text(head + "\n".join(pair(i, "\t") for i in range(COUNT)))
        source = open_source(str(tmp_path / "a.asc"))
        assert (source.signal.rate, source.signal.unit) == (RATE, "uV") and np.allclose(read(source), X)

    def test_pairs_of_electrodes(self, tmp_path: Path) -> None:
        head = "Shimmer_ECG_LL-RA_24BIT_CAL,Shimmer_ECG_LA-RA_24BIT_CAL\nmV,mV\n"
        (tmp_path / "a.csv").write_text(head + "\n".join(pair(i) for i in range(COUNT)))
        source = open_source(str(tmp_path / "a.csv"), BOTH)
        assert plain_names(source.signal.leads) == ["ii", "i"] and np.allclose(read(source), X)

    def test_nanovolt(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text(table("I [nV],II [nV]\n", pair))
        assert open_source(str(tmp_path / "a.csv"), Format(RATE)).signal.unit == "nV"


def test_of_utf_16(tmp_path: Path) -> None:
    """As Excel's Unicode text."""
    text = table(
        "Time (ms)\tI (\u00b5V)\tII (\u00b5V)\n", lambda i: f"{4 * i}\t{pair(i, chr(9), 1000)}", "\r\n"
    )
    (tmp_path / "a.txt").write_bytes(text.encode("utf-16"))
    source = open_source(str(tmp_path / "a.txt"))
    assert source.signal.unit == "uV" and np.allclose(read(source), 1000 * X)


def test_cells_without_a_value_are_missing_one_by_one(tmp_path: Path) -> None:
    words = ["NA", "n/a", "NaN", "null", "-", "?", "", "#N/A", "None"]
    path = tmp_path / "a.csv"
    path.write_text("I,II\n1,2\n" + "".join(f"3,{word}\n{word},4\n" for word in words))
    values = read(open_source(str(path), BOTH))
    assert np.array_equal(values[1::2][:, 0], [3] * len(words)) and np.isnan(values[1::2][:, 1]).all()
    assert np.array_equal(values[2::2][:, 1], [4] * len(words)) and np.isnan(values[2::2][:, 0]).all()


class TestSingleLeads:
    """Phones, kits and watches."""

    def test_polar_sensor_logger(self, tmp_path: Path) -> None:
        """The time of the phone jitters; that of the sensor says 130 Hz."""
        jitter = np.random.default_rng(1).uniform(0, 0.03, COUNT)
        lines = [
            f"2024-05-01T10:00:{i / 130 + jitter[i]:06.3f};{599616000 * 10**9 + round(i * 1e9 / 130)};"
            f"{i * 1000 / 130:.6f};{1000 * X[i, 0]:.0f}"
            for i in range(COUNT)
        ]
        head = "Phone timestamp;sensor timestamp [ns];timestamp [ms];ecg [uV]"
        (tmp_path / "a.txt").write_text("\n".join([head, *lines]))
        source = open_source(str(tmp_path / "a.txt"))
        assert (source.signal.leads, source.signal.rate, source.signal.unit) == (["ecg"], 130, "uV")
        assert source.notes == ("the rate is 130 Hz by the times; --rate gives another",)
        assert np.allclose(read(source)[:, 0], np.round(1000 * X[:, 0]))

    @pytest.mark.parametrize(
        ("device", "supply", "gain"), [("bitalino_rev", 3.3, 1100), ("biosignalsplux", 3.0, 1000)]
    )
    def test_opensignals(self, tmp_path: Path, device: str, supply: float, gain: float) -> None:
        raw = (100 * X[:, 0] + 512).round()
        about = (
            f'{{"00:07:80:00:00:00": {{"device": "{device}", "sampling rate": 1000, '
            '"resolution": [4, 1, 10, 10], '
            '"label": ["A1", "A2"], "column": ["nSeq", "I1", "A1", "A2"], "sensor": ["EMG", "ECGBIT"]}}'
        )
        lines = [f"{i % 16}\t1\t7\t{raw[i]:.0f}\t" for i in range(COUNT)]
        text = "\n".join(["# OpenSignals Text File Format. Version 1", f"# {about}", "# EndOfHeader", *lines])
        (tmp_path / "a.txt").write_text(text)
        source = open_source(str(tmp_path / "a.txt"))
        assert (source.signal.leads, source.signal.rate, source.signal.unit) == (["A2"], 1000, "mV")
        assert np.allclose(read(source)[:, 0], (raw / 1024 - 0.5) * supply / gain * 1000)

    @pytest.mark.parametrize("german", [False, True])
    def test_a_watch(self, tmp_path: Path, german: bool) -> None:
        if german:
            head = "Name,Ann Other\nAbtastrate,512 Hertz\n\nAbleitung,Ableitung I\nEinheit,\u00b5V\n\n"
        else:
            head = 'Name,Ann Other\nDevice,"Watch"\nSoftware Version,2.0\nSample Rate,512 hertz\n\n\n'
            head += "Lead,Lead I\nUnit,\u00b5V\n\n"
        lines = [f"{1000 * v:.3f}" for v in X[:, 0]]
        (tmp_path / "a.csv").write_text(head + "\n".join(map(comma, lines) if german else lines), "utf-8")
        source = open_source(str(tmp_path / "a.csv"))
        assert (source.signal.rate, source.signal.unit) == (512, "uV")
        assert np.allclose(read(source)[:, 0], 1000 * X[:, 0])


class TestWhatIsSaid:
    def test_of_times_that_contradict_the_rate_given(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text(table("time,I,II\n", lambda i: f"{i / RATE},{pair(i)}"))
        with pytest.raises(DataError, match="its times show 250 Hz, and the rate given is 500 Hz"):
            open_source(str(tmp_path / "a.csv"), Format(500, "mV"))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("time,I\r0,1\r1,2\r2,3\r", "its lines end in CR alone"),
            (
                "Start,Frequency,Samples\n" + f'2024-05-01,250,"[{",".join(["12"] * 500)}]"\n' * 3,
                "has whole recordings in cells",
            ),
        ],
    )
    def test_of_tables_of_another_form(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "a.csv").write_text(text, newline="")
        with pytest.raises(DataError, match=message):
            open_source(str(tmp_path / "a.csv"), BOTH)

    @pytest.mark.parametrize(
        "text",
        [
            "Ann Other\n1\n2\n", "Ann Other,Bob Brown\n1,2\n1,2\n", "{Ann Other\n", "Ann Other\n" * 9,
            "I,II\nAnn,Other\n1,2\n", "Patient;Ann Other\nUnit;mV\n1;2\n", "# Ann Other\n1 2\n",
            "Name,Ann Other\nSample Rate,9999 hertz\nLead,Lead I\nUnit,mV\n1\n2\n",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("given", [BOTH, NOTHING])
    def test_quotes_no_words_of_the_file(self, tmp_path: Path, text: str, given: Format) -> None:
        (tmp_path / "a.csv").write_text(text)
        said = []
        try:
            source = open_source(str(tmp_path / "a.csv"), given)
            said += [*source.notes]
            while not source.ended:
                said += [str(piece.details) for piece in source.read(99) if isinstance(piece, Note)]
            source.close()
        except DataError as error:
            said.append(str(error))
        assert not any(name in line for line in said for name in ("Ann", "Other", "Bob", "Brown")), said
