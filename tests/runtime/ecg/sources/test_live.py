"""Sources that do not wait, through real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from multires_edge.base.errors import DataError
from multires_edge.runtime.ecg.sources import live
from multires_edge.runtime.ecg.sources.connections import Connection
from multires_edge.runtime.ecg.sources.live import LiveSource
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Format, Missing, Note, Piece, Samples, Source
from multires_edge.runtime.ecg.sources.text import lines, parser
from multires_edge.runtime.ecg.sources.text.parser import LineParser
from tests.waiting import PATIENCE, until

HEADER = b'{"leads": ["I"], "rate": 100, "unit": "mV"}\n'


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """Starts a device's server, which does something with its one client; gives its address."""
    threads: list[threading.Thread] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def start(device: Callable[[socket.socket], None]) -> str:
        def run() -> None:
            client, _ = listener.accept()
            with client:
                device(client)

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return f"tcp://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for thread in threads:
        thread.join(PATIENCE)
    listener.close()


def scripted(*chunks: bytes, buffer_seconds: float = 20) -> LiveSource:
    """A connection that brings these chunks."""
    connection = Connection(iter([*chunks, b""]).__next__)
    return LiveSource("x", lambda: connection, Format(), buffer_seconds)


def drain(source: LiveSource) -> list[Piece]:
    pieces: list[Piece] = []
    source._wanted.set()
    assert source._finished.wait(PATIENCE)
    while not source.ended:
        pieces += source.read(1000)
    return pieces


def read_until(source: Source, condition: Callable[[list[Piece]], bool]) -> list[Piece]:
    """Pieces until a condition holds for them; then close the source."""
    pieces: list[Piece] = []

    def holds() -> bool:
        pieces.extend(source.read(10))
        return condition(pieces)

    until(holds)
    source.close()
    return pieces


def values(pieces: list[Piece]) -> list[float]:
    return [v for piece in pieces if isinstance(piece, Samples) for v in piece.values[:, 0].tolist()]


def test_lines_cut_anywhere(serve: Callable[..., str]) -> None:
    def device(client: socket.socket) -> None:
        data = HEADER + b"".join(b"[%d]\n" % i for i in range(300)) + b"[300]"
        for i in range(0, len(data), 7):
            client.sendall(data[i : i + 7])

    source = open_source(serve(device))
    assert isinstance(source, LiveSource) and source.live
    pieces = drain(source)
    assert values(pieces) == list(range(301))
    assert all(p.arrived is not None for p in pieces if isinstance(p, Samples))
    source.close()


def test_a_connection_that_breaks_is_said(serve: Callable[..., str]) -> None:
    has_been_read = threading.Event()

    def device(client: socket.socket) -> None:
        client.sendall(HEADER + b"[1]\n[2]\n")
        has_been_read.wait(PATIENCE)
        # Closing with this sends a reset in place of an orderly end.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    source = open_source(serve(device))
    assert isinstance(source, LiveSource)
    pieces: list[Piece] = []
    while len(values(pieces)) < 2:
        pieces += source.read(10)
    has_been_read.set()
    pieces = drain(source)
    assert [(p.kind, p.fault) for p in pieces if isinstance(p, Note)] == [("lost", True)]
    source.close()


class TestDevicesThatComeBack:
    def source(self, *lives: list[bytes], reconnect: float = 5) -> LiveSource:
        """A device that is there so many times, each time with these chunks."""
        remaining = iter(lives)

        def connect() -> Connection:
            chunks = next(remaining, None)
            if chunks is None:
                raise DataError("nobody there")
            return Connection(iter([*chunks, b""]).__next__)

        return LiveSource("x", connect, Format(reconnect=reconnect))

    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live, "_RETRY", 0.01)

    def test_without_times_were_away_for_as_long_as_the_clock_says(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(live, "_RETRY", 0.3)
        pieces = drain(self.source([HEADER, b"[1]\n[2"], [HEADER, b"[3]\n"], reconnect=0.4))
        assert values(pieces) == [1, 3]
        notes = [p for p in pieces if isinstance(p, Note)]
        assert [(note.kind, note.fault) for note in notes] == [
            ("bad_line", False), ("lost", False), ("connected", False), ("gap", False), ("lost", False),
            ("lost", True),
        ]  # fmt: skip
        away = [piece.count for piece in pieces if isinstance(piece, Missing)]
        assert away == [1, round(notes[3].details["seconds"] * 100)]
        assert "away for more than 0.4 s" in notes[-1].details["message"]

    def test_need_not_send_their_header_again(self) -> None:
        source = self.source([HEADER, b"[1]\n"], [b"[2]\n", b"[3]\n", HEADER, b"[4]\n"])
        pieces = read_until(source, lambda pieces: len(values(pieces)) == 4)
        assert values(pieces) == [1, 2, 3, 4]
        assert _kinds(pieces)[:2] == ["lost", "connected"]

    def test_with_times_for_as_long_as_those_say(self) -> None:
        first, second = (
            b"".join(b'{"time": %.2f, "samples": [[%d]]}\n' % (t / 100, t) for t in times)
            for times in (range(700, 740), range(800, 810))
        )
        pieces = drain(self.source([HEADER, first], [HEADER, second], reconnect=0.05))
        assert values(pieces) == [*range(700, 740), *range(800, 810)]
        assert [piece.count for piece in pieces if isinstance(piece, Missing)] == [60]

    def test_as_another_one_are_refused(self) -> None:
        other = HEADER.replace(b"100", b"200")
        pieces = drain(self.source([HEADER, b"[1]\n"], [other, b"[2]\n"]))
        assert values(pieces) == [1]
        last = pieces[-1]
        assert (
            isinstance(last, Note) and last.fault and "other leads, rate or unit" in last.details["message"]
        )

    def test_but_only_to_hang_up_again_are_not_back(self) -> None:
        """As through a tunnel, which takes connections when its far end does not."""
        empty: list[list[bytes]] = [[]] * 8
        source = self.source([HEADER, b"[1]\n"], *empty, [HEADER, b"[2]\n"], reconnect=1000)
        pieces = read_until(source, lambda pieces: _kinds(pieces).count("lost") == 2)
        assert values(pieces) == [1, 2] and _kinds(pieces) == ["lost", "connected", "lost"]
        notes = [piece for piece in pieces if isinstance(piece, Note)]
        assert notes[1].details["seconds"] >= 0.08
        pieces = drain(self.source([HEADER, b"[1]\n"], *empty * 50, reconnect=0.05))
        last = pieces[-1]
        assert isinstance(last, Note) and "away for more than 0.05 s" in last.details["message"]

    def test_closing_ends_the_waiting(self) -> None:
        source = self.source([HEADER, b"[1]\n"], reconnect=1000)
        source._wanted.set()
        source.close()
        assert source._finished.wait(PATIENCE)


def _kinds(pieces: list[Piece]) -> list[str]:
    return [piece.kind for piece in pieces if isinstance(piece, Note)]


@pytest.fixture
def as_sampled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., LiveSource]:
    """A device that sends chunks at its own rate, by a clock that only they advance."""

    def make(*chunks: tuple[int, bytes], buffer_seconds: float) -> LiveSource:
        clock = SimpleNamespace(now=0.0)
        times = SimpleNamespace(monotonic=lambda: clock.now, thread_time=lambda: 0.0)
        monkeypatch.setattr(live, "time", times)

        def receive() -> Iterator[bytes]:
            yield HEADER
            for samples, data in chunks:
                clock.now += samples / 100
                yield data
            yield b""

        connection = Connection(receive().__next__)
        return LiveSource("x", lambda: connection, Format(), buffer_seconds)

    return make


def test_what_finds_no_room_is_counted_and_missing(as_sampled: Callable[..., LiveSource]) -> None:
    source = as_sampled(*((1, b"[%d]\n" % i) for i in range(100)), buffer_seconds=0.4)
    pieces = drain(source)
    assert values(pieces) == list(range(40))
    rest = [p for p in pieces if not isinstance(p, Samples)]
    assert rest == [Note("dropped", {"samples": 60}), Missing(60)]


def test_what_finds_no_room_beside_one_long_packet_is_counted_too(
    as_sampled: Callable[..., LiveSource],
) -> None:
    packet = b'{"samples": [%s]}\n' % b", ".join([b"[1]"] * 100)
    pieces = drain(as_sampled((100, packet), (100, packet), buffer_seconds=0.4))
    rest = [p for p in pieces if not isinstance(p, Samples)]
    assert rest == [Note("dropped", {"samples": 100}), Missing(100)]


def test_a_reader_that_fails_is_no_orderly_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(LineParser, "add", fail)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    last = drain(scripted(HEADER, b"[1]\n"))[-1]
    assert isinstance(last, Note) and last.fault and "a bug" in last.details["message"]


def test_a_saved_state_knows_what_has_been(serve: Callable[..., str]) -> None:
    """A device that sends its last seconds again after a reconnection."""

    def rows(start: int, stop: int) -> bytes:
        return HEADER + b"".join(
            b'{"time": %f, "samples": [[%d]]}\n' % (i / 100, i) for i in range(start, stop)
        )

    first = open_source(serve(lambda client: client.sendall(rows(0, 50))))
    assert isinstance(first, LiveSource)
    head = drain(first)
    saved = first.save()
    first.close()
    second = scripted(rows(30, 80))
    second.load(saved)
    assert values(head) + values(drain(second)) == list(range(80))


def test_a_line_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 100)
    monkeypatch.setattr(parser, "LONGEST_LINE", 100)
    pieces = drain(scripted(HEADER, b"[1]\n", *[b"9" * 60] * 5, b"9\n[2]\n"))
    assert values(pieces) == [1, 2]
    (note,) = [p for p in pieces if isinstance(p, Note)]
    assert note.kind == "bad_line" and "more than 100 bytes" in note.details["message"]


def test_a_line_of_more_than_seconds_is_refused() -> None:
    packet = b'{"samples": [%s]}\n' % b", ".join([b"[1]"] * 1001)
    pieces = drain(scripted(HEADER, packet, b"[2]\n"))
    assert values(pieces) == [2]
    (note,) = [p for p in pieces if isinstance(p, Note)]
    assert "has 1001 samples, expected 1 to 1000" in note.details["message"]


@pytest.mark.slow
def test_a_flood_of_bad_lines_waits_for_room() -> None:
    """Each is work, although it has no samples."""
    source = scripted(HEADER, *[b"x\n[1]\n" * 500] * 3, buffer_seconds=2)
    source.read(0)
    most, pieces = 0, []
    while not source.ended:
        with source._room:
            most = max(most, sum(len(packet.pieces) for packet in source._queue))
        pieces += (packet := source.read(1))
        assert len(packet) < 50
    assert most < 100 and sum(len(values([piece])) for piece in pieces) == 1500


def test_one_read_gives_a_packet_and_not_all_that_came() -> None:
    source = scripted(HEADER, b"".join(b"[%d]\n" % i for i in range(1000)))
    source.read(0)
    assert source._finished.wait(PATIENCE)
    assert len(values(source.read(1))) == 50  # half a second


class TestRefusals:
    @pytest.mark.parametrize("address", ["tcp://", "tcp://host", "tcp://:5", "tcp://h:99999", "tcp://h:x"])
    def test_addresses(self, address: str) -> None:
        with pytest.raises(DataError, match="expected tcp://HOST:PORT"):
            open_source(address)

    @pytest.mark.parametrize("host", ["a..b", "a" * 300])
    def test_names_that_are_none(self, host: str) -> None:
        with pytest.raises(DataError, match="cannot be reached"):
            open_source(f"tcp://{host}:5")

    def test_no_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", None)
        with pytest.raises(DataError, match="standard input is closed"):
            open_source("-")

    def test_nobody_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        with pytest.raises(DataError, match="cannot be reached"):
            open_source(f"tcp://127.0.0.1:{port}")

    def test_a_device_that_says_nothing(
        self, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        address = serve(lambda client: None)
        with pytest.raises(DataError, match="ended before its first line"):
            open_source(address)
        monkeypatch.setattr(live, "_FIRST_LINE_SECONDS", 0.2)
        hold = threading.Event()
        address = serve(lambda client: hold.wait(PATIENCE) and None)
        with pytest.raises(DataError, match="no line within"):
            open_source(address)
        hold.set()

    def test_a_header_that_is_none(self) -> None:
        with pytest.raises(DataError, match="without names of leads"):
            scripted(b"1,2\n")


@pytest.mark.slow
def test_samples_after_a_silence_go_on_although_nothing_follows_them(serve: Callable[..., str]) -> None:
    done = threading.Event()

    def device(client: socket.socket) -> None:
        client.sendall(HEADER + b"[1]\n" * 100)
        time.sleep(3)
        client.sendall(b"[2]\n" * 100)
        done.wait(PATIENCE)

    source = open_source(serve(device))
    pieces = read_until(source, lambda pieces: values(pieces).count(2) == 100)
    done.set()
    assert values(pieces).count(2) == 100
    assert [piece.kind for piece in pieces if isinstance(piece, Note)] == ["gap"]


def test_it_wakes_whoever_waits_once_what_is_expected_is_there(serve: Callable[..., str]) -> None:
    more, told, ended = (threading.Event() for _ in range(3))

    def device(client: socket.socket) -> None:
        client.sendall(HEADER + b"[1]\n[2]\n")
        more.wait(PATIENCE)
        client.sendall(b"[3]\n")

    source = open_source(serve(device))
    source.read(0)
    source.expect(3, told.set)
    assert not told.wait(0.2)
    more.set()
    assert told.wait(PATIENCE)
    source.expect(3, told.clear)  # they are there still
    assert not told.is_set()
    assert len(values(source.read(3))) == 3
    source.expect(1, ended.set)  # and there will be no more
    assert ended.wait(PATIENCE)
    source.close()


def test_samples_that_come_one_by_one_are_one_piece_up_to_a_note() -> None:
    source = scripted(HEADER, b"[1]\n", b"[2]\n", b"[3]\n", b"nonsense\n", b"[5]\n", b"[6]\n")
    source.read(0)
    assert source._finished.wait(PATIENCE)
    (two,) = source.read(2)
    assert isinstance(two, Samples) and two.values.tolist() == [[1], [2]]
    three, note, missing, rest = source.read(10) + source.read(10)
    assert isinstance(note, Note) and note.kind == "bad_line" and missing == Missing(1)
    assert values([three, rest]) == [3, 5, 6]
    # What a decision waited for is the last of them.
    assert isinstance(three, Samples) and isinstance(rest, Samples)
    assert two.arrived is not None and three.arrived is not None and rest.arrived is not None
    assert two.arrived <= three.arrived <= rest.arrived


@pytest.mark.slow
def test_what_comes_faster_than_it_is_sampled_waits_for_room() -> None:
    """As a recording through a pipe does; and closing ends the waiting."""
    for stop in (False, True):
        chunks = [b"".join(b"[%d]\n" % (10 * i + j) for j in range(10)) for i in range(100)]
        source = scripted(HEADER, *chunks, buffer_seconds=0.4)
        source.read(0)
        until(lambda source=source: source._waiting >= 40)  # type: ignore[misc]
        assert not source._finished.wait(0.05)
        if stop:
            source.close()
            assert source._finished.wait(PATIENCE)
            continue
        pieces: list[Piece] = []
        while not source.ended:
            pieces += source.read(30)
            assert source._waiting <= 40
        assert values(pieces) == list(range(1000))
        assert all(isinstance(piece, Samples) for piece in pieces)
