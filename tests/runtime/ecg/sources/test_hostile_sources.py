"""Generated hostile text, as a file, through a pipe and a socket: refused in one line, or decided rightly.

``MULTIRES_HOSTILE=1000 pytest tests/runtime/ecg/sources/test_hostile_sources.py`` tries 1000 texts.
"""

from __future__ import annotations

import json
import random
import socket
import threading
import traceback
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from multires_edge.base.errors import MultiresError
from multires_edge.runtime import Bundle
from multires_edge.runtime.ecg.session import Session
from multires_edge.runtime.ecg.sources.connections import Connection
from multires_edge.runtime.ecg.sources.live import LiveSource
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Format, Source
from multires_edge.runtime.ecg.streams import EcgStreams
from tests.hostile import COUNT, within
from tests.hostile_sources import RATE, SECONDS, HostileText, hostile_texts
from tests.waiting import PATIENCE

GIVEN = Format(RATE, "mV")
_EVERY = 0.5
_ALARMS = ("onset", "offset", "lost")


def decide(bundle: Bundle, source: Source) -> tuple[list[dict[str, Any]], list[str]]:
    """The lines that a run writes, and its faults."""
    try:
        streams = EcgStreams(
            bundle, [source.signal], every=_EVERY, pool="window:2s", thresholds=["A=0.405:0.402"],
            lockstep=not source.live,
        )  # fmt: skip
        session = Session(streams, [source])
        items = [item for items in session.run() for item in items]
    finally:
        source.close()
    entries = [item.to_json() for item in items]
    for entry in entries:
        entry.pop("timing", None)
        entry["source"] = "x"
    return [json.loads(json.dumps(entry, allow_nan=False)) for entry in entries], session.faults


def from_file(text: bytes, suffix: str, folder: Path) -> Source:
    path = folder / f"text{suffix}"
    path.write_bytes(text)
    return open_source(str(path), GIVEN)


def through_a_pipe(text: bytes, draw: random.Random) -> Source:
    cuts = sorted(draw.randrange(len(text) + 1) for _ in range(draw.choice((0, 3, 20))))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True) if a < b]
    connection = Connection(iter([*chunks, b""]).__next__)
    return LiveSource("x", lambda: connection, GIVEN)


def check(entries: list[dict[str, Any]], faults: list[str]) -> None:
    """What holds for every run."""
    decisions = [entry for entry in entries if entry["type"] == "decision"]
    times = [entry["time"] for entry in decisions]
    assert all(later > earlier for earlier, later in pairwise(times))
    for entry in decisions:
        chances = entry["probabilities"]
        assert (chances is None) == ("no_signal" in entry)
        assert chances is None or all(0 <= p <= 1 for p in chances.values())
    # No more than the samples that were there, filled gaps and repeated lines.
    assert len(decisions) < 100 * SECONDS / _EVERY
    assert len(entries) < 20 * SECONDS / _EVERY + 2 * len(decisions)
    assert decisions or entries or faults


def silently(entries: list[dict[str, Any]], faults: list[str], clean: list[dict[str, Any]]) -> bool:
    """Whether other decisions were made than on the clean text, and nothing says why."""
    if faults or any(entry["type"] == "event" and entry["event"] not in _ALARMS for entry in entries):
        return False
    if any(entry.get("quality") or entry.get("no_signal") for entry in entries):
        return False
    same = [entry for entry in clean if entry in entries]
    return len(same) < len(entries)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["file", "pipe"])
def test_texts(opened: Bundle, tmp_path: Path, way: str) -> None:
    draw, clean = random.Random(1), dict[bytes, Any]()
    taken = refused = 0
    wrong: list[str] = []
    for number, text in enumerate(hostile_texts(COUNT, seed=len(way))):
        try:
            with within(60):
                if text.clean not in clean:
                    clean[text.clean] = decide(opened, from_file(text.clean, text.suffix, tmp_path))[0]
                if way == "file":
                    source = from_file(text.data, text.suffix, tmp_path)
                else:
                    source = through_a_pipe(text.data, draw)
                entries, faults = decide(opened, source)
            check(entries, faults)
            assert not (text.visible and silently(entries, faults, clean[text.clean])), "nothing was said"
            taken += 1
        except MultiresError as error:
            refused += 1
            if "\n" in str(error):
                wrong.append(_shown(number, text))
        except Exception:
            wrong.append(_shown(number, text))
    assert not wrong, f"{len(wrong)} of {COUNT} texts:\n" + "\n".join(wrong[:20])
    assert taken and refused


def _shown(number: int, text: HostileText) -> str:
    return f"{number}: {text.changes}\n{traceback.format_exc(limit=-4)}"


@pytest.mark.slow
def test_texts_from_a_socket(opened: Bundle) -> None:
    """The same as through a pipe, with what a network does in addition."""
    texts = list(hostile_texts(max(5, COUNT // 10), seed=9))

    def serve() -> None:
        for text in texts:
            client, _ = listener.accept()
            with client:
                try:
                    client.sendall(text.data)
                except OSError:
                    continue  # refused

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        for text in texts:
            with within(60):
                try:
                    source = open_source(f"tcp://127.0.0.1:{listener.getsockname()[1]}", GIVEN)
                    entries, faults = decide(opened, source)
                except MultiresError as error:
                    assert "\n" not in str(error), text.changes
                    continue
            check(entries, faults)
        thread.join(PATIENCE)
