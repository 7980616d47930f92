"""Text as no device should send it: generated from good text by a few changes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.runtime.conftest import beats

RATE, SECONDS = 250, 8
_PACKET = 25
_WORDS = (
    b"", b" ", b"x", b"NA", b"null", b"-", b"--5", b"1_0", b"0x10", b"nan", b"NaN", b"inf", b"-Infinity",
    b"1e308", b"1e400", b"9" * 400, b"-32768", b"32767", b"5000", b"true", b'"1"', b"[]", b"{}", b"1 2",
    b"1;2", b"\xff\xfe", b"\0", b"\x1b[31m", b"\xe2\x80\xae", b"1,1", b"0.1.2",
)  # fmt: skip
_LINES = (
    b"", b"x", b"{", b"[", b"[" * 50_000, b'{"a":' * 2000, b"]" * 99, b"\0" * 99, b"\xff" * 99,
    b"9" * 5000, b"," * 999, b"[[]]", b"[[[1, 2]]]", b'{"samples": 7}', b'{"samples": [[1]]}',
    b'{"samples": []}', b'{"samples": [[1, 2], 3]}', b'{"time": 3}', b'{"samples": [[1, 2]], "time": []}',
    b"null", b"true", b'"text"', b"7", b"# comment", b"HTTP/1.1 400 Bad Request", b"error,none",
    b"\x1f\x8b\x08\0\0", b"x" * (1 << 20), b"x" * ((1 << 20) + 5),
)  # fmt: skip
_HEADERS = (
    b'{"leads": ["II", "I"], "rate": 250, "unit": "mV"}', b'{"leads": ["I"], "rate": 250, "unit": "mV"}',
    b'{"leads": ["I", "I"], "rate": 250, "unit": "mV"}',
    b'{"leads": ["I", "II"], "rate": 1e9, "unit": "mV"}',
    b'{"leads": ["I", "II"], "rate": true, "unit": "mV"}',
    b'{"leads": ["I", "II"], "rate": "250", "unit": "mV"}',
    b'{"leads": ["I", "II"], "rate": 250, "unit": "bar"}',
    b'{"leads": ["I", "II"], "rate": 250, "unit": ["mV"]}',
    b'{"leads": ["I", "II"], "rate": 250, "unit": [[], {}]}',
    b'{"leads": ["I", "II"], "rate": null, "unit": null}',
    b'{"leads": [["I"], "II"], "rate": 250, "unit": "mV"}',
    b'{"leads": {"I": 1}, "rate": 250, "unit": "mV"}', b'{"leads": [], "rate": 250, "unit": "mV"}',
    b'{"leads": ["\\ud800", "II"], "rate": 250, "unit": "mV"}',
    b'{"leads": [' + b'"I", ' * 99_999 + b'"II"], "rate": 250, "unit": "mV"}', b"II,I", b"I", b"I,I",
    b"I,II,III", b",", b"time,II,I", b"I,time,II", b"time,time,I,II", b"I;II", b"I\tII", b"1,2",
    b"\xff\xfeI\0,\0I\0I\0", b"\x1b[31mI,II", b"leads", b"[", b"{}", b"[1, 2]", b"null", b"\0", b"",
)  # fmt: skip


@dataclass(frozen=True)
class HostileText:
    """``data`` in a form that ``suffix`` names; ``changes`` in words. ``clean``: the text before them.

    ``visible``: whether something must be said if the changes make other decisions. Nobody can see that lines
    without times were left out or exchanged.
    """

    data: bytes
    clean: bytes
    suffix: str
    changes: str
    visible: bool


def hostile_texts(count: int, seed: int) -> Iterator[HostileText]:
    """Texts with one to four changes each."""
    draw = random.Random(seed)
    samples = [(round(float(a), 4), round(float(b), 4)) for a, b in beats(SECONDS, RATE)]
    for _ in range(count):
        timed, form = draw.random() < 0.6, draw.choice(["csv", "rows", "packets"])
        lines = _good(samples, form, timed=timed)
        clean = b"\n".join(lines) + b"\n"
        changes, visible = [], True
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            change = draw.choice(_CHANGES)
            what, seen = change(lines, draw, form == "csv", timed and form != "rows")
            changes.append(what)
            visible = visible and seen
        data = b"\n".join(lines) + b"\n"
        encode = draw.random()
        if encode < 0.1:
            changes.append("encoded in another way")
            data = draw.choice(_ENCODINGS)(data)
        elif encode < 0.2:
            cut = draw.randrange(len(data))
            changes.append(f"cut at byte {cut}")
            data, visible = data[:cut], False  # a stream may end anywhere
        suffix = ".csv" if form == "csv" else ".jsonl"
        yield HostileText(data, clean, suffix, f"{form}, timed: {timed}: " + "; ".join(changes), visible)


_ENCODINGS: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: data.replace(b"\n", b"\r\n"),
    lambda data: data.replace(b"\n", b"\r"),
    lambda data: b"\xef\xbb\xbf" + data,
    lambda data: data.decode("latin-1").encode("utf-16"),
    lambda data: data.decode("latin-1").encode("utf-32-be"),
    lambda data: data.replace(b",", b";"),
    lambda data: data.replace(b".", b","),
    lambda data: data.replace(b"\n", b"\n\n\n"),
    lambda data: data[::-1],
    lambda data: bytes(255 - byte for byte in data),
)


def _good(samples: list[tuple[float, float]], form: str, *, timed: bool) -> list[bytes]:
    """A header and lines."""
    if form == "csv":
        rows = [f"{i / RATE:.3f},{a},{b}" if timed else f"{a},{b}" for i, (a, b) in enumerate(samples)]
        return [line.encode() for line in ["time,I,II" if timed else "I,II", *rows]]
    header = {"leads": ["I", "II"], "rate": RATE, "unit": "mV"}
    if form == "rows":
        return [json.dumps(entry).encode() for entry in [header, *samples]]
    packets = [
        {"samples": samples[i : i + _PACKET]} | ({"time": i / RATE} if timed else {})
        for i in range(0, len(samples), _PACKET)
    ]
    return [json.dumps(entry).encode() for entry in [header, *packets]]


# A change edits the lines, and returns what it did and whether that must be seen.
_Lines = list[bytes]
_Done = tuple[str, bool]


def _some(lines: _Lines, draw: random.Random) -> int:
    """The number of a line that is not the header."""
    return draw.randrange(1, len(lines)) if len(lines) > 1 else 0


def _field(lines: _Lines, draw: random.Random, csv: bool, timed: bool) -> _Done:
    """Another word in the place of a number, in one line or in every nth."""
    first, step, word = _some(lines, draw), draw.choice((1, 2, 10, 10**9)), draw.choice(_WORDS)
    at = draw.randrange(3)
    for number in range(first, len(lines), step):
        fields = lines[number].split(b",")
        place = min(at, len(fields) - 1)
        bare = fields[place].strip(b' []{}"')
        fields[place] = fields[place].replace(bare, word, 1) if bare else word
        lines[number] = b",".join(fields)
    return f"{word[:20]!r} in field {at} of line {first} and every {step}th", True


def _line(lines: _Lines, draw: random.Random, csv: bool, timed: bool) -> _Done:
    """Lines that have nothing to do with the others."""
    line, number = draw.choice(_LINES), _some(lines, draw)
    times = 1 if len(line) > 5000 else draw.choice((1, 1, 30, 2000))
    lines[number:number] = [line] * times
    return f"{times} times {line[:30]!r} before line {number}", True


def _alternate(lines: _Lines, draw: random.Random, csv: bool, timed: bool) -> _Done:
    """Bad lines in turn with good ones."""
    line = draw.choice([line for line in _LINES if len(line) < 1000])
    lines[1:] = [each for good in lines[1:] for each in (good, line)]
    return f"{line[:30]!r} after every line", True


def _header(lines: _Lines, draw: random.Random, csv: bool, timed: bool) -> _Done:
    lines[0] = draw.choice(_HEADERS)
    return f"header {lines[0][:60]!r}", False


def _header_again(lines: _Lines, draw: random.Random, csv: bool, timed: bool) -> _Done:
    number, header = _some(lines, draw), draw.choice((lines[0], *_HEADERS))
    lines.insert(number, header)
    return f"another header {header[:60]!r} before line {number}", True


def _left_out(lines: _Lines, draw: random.Random, csv: bool, timed: bool) -> _Done:
    number = _some(lines, draw)
    length = draw.choice((1, 2, len(lines) // 4, len(lines)))
    del lines[number : number + length]
    # At the end nothing is missing, and two samples fewer may be a clock that is off.
    return f"{length} lines from {number} left out", timed and length > 2 and number < len(lines)


def _repeated(lines: _Lines, draw: random.Random, csv: bool, timed: bool) -> _Done:
    number = _some(lines, draw)
    length, times = draw.choice((1, 5, 100)), draw.choice((1, 3))
    lines[number:number] = lines[number : number + length] * times
    return f"{length} lines from {number} repeated {times} times", timed and length > 1


def _shuffled(lines: _Lines, draw: random.Random, csv: bool, timed: bool) -> _Done:
    number = _some(lines, draw)
    part = lines[number : number + 100]
    draw.shuffle(part)
    lines[number : number + 100] = part
    return f"lines from {number} shuffled", timed


def _times(lines: _Lines, draw: random.Random, csv: bool, timed: bool) -> _Done:
    """Other times from a line on, or in one line."""
    if not timed:
        return _field(lines, draw, csv, timed)
    first = _some(lines, draw)
    last = draw.choice((first + 1, first + 2, first + 50, len(lines)))
    what, other = draw.choice(
        (
            ("by an hour", lambda t: t + 3600), ("back by an hour", lambda t: t - 3600),
            ("by a day", lambda t: t + 90_000), ("by ten minutes", lambda t: t + 600),
            ("back by 2 s", lambda t: t - 2), ("to zero", lambda t: 0.0), ("to one value", lambda t: 7.7),
            ("in ms", lambda t: 1000 * t), ("slower", lambda t: t / 3), ("faster", lambda t: 5 * t),
            ("to the end of floats", lambda t: 1e308), ("far away", lambda t: 4e17 + t),
            ("an hour each", lambda t: 3599 * RATE * t), ("reversed", lambda t: 100 - t),
            ("negative", lambda t: -t), ("at random", lambda t: draw.uniform(-1e6, 1e6)),
            ("with noise", lambda t: t + draw.uniform(-1, 1)),
        )
    )  # fmt: skip
    for number in range(first, min(last, len(lines))):
        lines[number] = _with_time(lines[number], other, csv)
    return f"times {what} from line {first} to {last}", False


def _with_time(line: bytes, other: Callable[[float], float], csv: bool) -> bytes:
    try:
        if csv:
            time, _, rest = line.partition(b",")
            return b"%s,%s" % (repr(other(float(time))).encode(), rest)
        entry = json.loads(line)
        return json.dumps(entry | {"time": other(entry["time"])}).encode()
    except (ValueError, TypeError, KeyError, RecursionError):
        return line  # changed already


def _bytes(lines: _Lines, draw: random.Random, csv: bool, timed: bool) -> _Done:
    """Flipped bits. A digit may become another digit, which nobody sees."""
    count = draw.choice((1, 10, 1000))
    for _ in range(count):
        number = draw.randrange(len(lines))
        line = bytearray(lines[number])
        if line:
            line[draw.randrange(len(line))] ^= 1 << draw.randrange(8)
        lines[number] = bytes(line)
    return f"{count} flipped bits", False


_CHANGES = (
    _field, _field, _line, _line, _alternate, _header, _header_again, _left_out, _repeated, _shuffled,
    _times, _times, _bytes,
)  # fmt: skip
