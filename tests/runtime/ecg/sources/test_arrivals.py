"""Silences of devices without timestamps: what was lost in them, if anything was."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from multires_edge.format.fields import plain, read_fields
from multires_edge.runtime.ecg.sources.arrivals import Arrivals, ArrivalsState
from multires_edge.runtime.ecg.sources.protocol import Missing, Note, Piece, Samples

RATE = 100.0
CLOCK = "multires_edge.runtime.ecg.sources.arrivals.time"


def samples(count: int) -> Samples:
    return Samples(np.zeros((count, 1)))


class Device:
    """Sends packets to arrivals; ``lost`` and ``out`` are what came of them."""

    def __init__(self) -> None:
        self.arrivals, self.now, self.out = Arrivals(RATE), 1000.0, list[Piece]()

    def sends(self, seconds: float, *, packet: float = 0.1, speed: float = 1.0, then: float = 0.0) -> None:
        """Packets at ``speed`` times the rate, and a silence after them."""
        for _ in range(round(seconds / packet)):
            self.now += packet / speed
            self.out += self.arrivals.take([samples(round(packet * RATE))], self.now)
        self.now += then

    def ends(self) -> None:
        self.out += self.arrivals.finish()

    @property
    def lost(self) -> list[float]:
        """Seconds of the gaps."""
        gaps = [piece for piece in self.out if isinstance(piece, Note)]
        missing = [piece.count for piece in self.out if isinstance(piece, Missing)]
        assert missing == [round(gap.details["seconds"] * RATE) for gap in gaps]
        return [gap.details["seconds"] for gap in gaps]

    @property
    def came(self) -> float:
        """Seconds of samples that were passed on."""
        return sum(piece.count for piece in self.out if isinstance(piece, Samples)) / RATE


@pytest.fixture
def device() -> Device:
    return Device()


class TestSomethingWasLost:
    def test_samples_go_on_although_nothing_follows_them(self, device: Device) -> None:
        """As of a device that sends once in a while."""
        device.sends(2, then=30)
        device.sends(1, speed=1000)
        assert device.came == 2 and device.arrivals.holds
        for later in np.arange(0.1, 2.5, 0.1):
            device.out += device.arrivals.take([], device.now + later)
            assert later > 1 or device.came == 2
        assert device.came == 3 and device.lost == [pytest.approx(29, abs=0.2)]
        assert not device.arrivals.holds

    @pytest.mark.parametrize("packet", [0.01, 0.1, 1.0, 4.0])
    def test_a_silence_of_a_minute(self, device: Device, packet: float) -> None:
        device.sends(20, packet=packet, then=60)
        device.sends(20, packet=packet)
        assert device.lost == [pytest.approx(60, abs=0.01)]
        device.ends()
        assert device.came == 40
        before = device.out.index(next(piece for piece in device.out if isinstance(piece, Note)))
        assert sum(piece.count for piece in device.out[:before]) == 20 * RATE

    def test_a_network_that_kept_only_some_of_it(self, device: Device) -> None:
        device.sends(20, then=60)
        device.sends(15, speed=50)
        device.sends(20)
        assert device.lost == [pytest.approx(60 - 15, abs=0.5)]

    def test_a_silence_again_and_again(self, device: Device) -> None:
        for _ in range(5):
            device.sends(10, then=30)
        device.sends(10)
        assert device.lost == [pytest.approx(30, abs=0.1)] * 5

    def test_a_device_that_was_away_for_a_moment(self, device: Device) -> None:
        device.sends(5, then=0.6)
        device.arrivals.suspect()
        device.sends(5)
        assert device.lost == [pytest.approx(0.6, abs=0.02)] and device.came == 10

    def test_what_is_known_at_the_end(self, device: Device) -> None:
        device.sends(5, then=10)
        device.sends(0.3)
        assert device.lost == [] and device.came == 5
        device.ends()
        assert device.lost == [pytest.approx(10, abs=0.1)] and device.came == 5.3


class TestNothingWasLost:
    @pytest.mark.parametrize("packet", [0.01, 1.0, 5.0])
    @pytest.mark.parametrize("drift", [0.997, 1.0, 1.003])
    def test_packets_of_seconds_and_clocks_that_are_off(
        self, device: Device, packet: float, drift: float
    ) -> None:
        device.sends(600, packet=packet, speed=drift)
        assert device.lost == [] and device.came == 600

    @pytest.mark.parametrize("speed", [1.5, 4.0, 1000.0])
    @pytest.mark.parametrize("silence", [2.0, 15.0, 60.0])
    def test_what_comes_late_in_a_burst(self, device: Device, silence: float, speed: float) -> None:
        device.sends(20, then=silence)
        # The device took samples all the time.
        device.sends(silence * speed / (speed - 1), speed=speed)
        device.sends(20)
        assert device.lost == []
        assert device.came == pytest.approx(40 + silence * speed / (speed - 1), abs=0.2)

    def test_jitter(self, device: Device) -> None:
        draw = np.random.default_rng(0)
        for i in range(2000):
            device.now = max(device.now, 1000 + 0.1 * i + draw.exponential(0.3))
            device.out += device.arrivals.take([samples(10)], device.now)
        device.ends()
        assert device.lost == [] and device.came == 200

    def test_a_recording_through_a_pipe_that_pauses(self, device: Device) -> None:
        device.sends(1000, speed=1000, then=20)
        device.sends(1000, speed=1000)
        assert device.lost == [] and device.came == 2000


def test_it_holds_no_more_than_seconds(device: Device) -> None:
    device.sends(5, then=600)
    for _ in range(1000):
        device.sends(0.1, speed=100)
        assert device.arrivals._held_samples <= 21 * RATE


class TestASavedState:
    def after(self, device: Device, monkeypatch: pytest.MonkeyPatch, away: float) -> tuple[bool, Device]:
        """Another process, ``away`` seconds later by the clock of the day."""
        monkeypatch.setattr(f"{CLOCK}.time", lambda: 5e8)
        state = device.arrivals.save(device.now)
        saved = read_fields(ArrivalsState, json.loads(json.dumps(plain(state))))
        monkeypatch.setattr(f"{CLOCK}.time", lambda: 5e8 + away)
        other: Any = Device()
        return other.arrivals.load(saved, other.now), other

    @pytest.mark.parametrize("away", [0.5, 60.0, 3600.0])
    def test_knows_how_long_it_was_away(
        self, device: Device, monkeypatch: pytest.MonkeyPatch, away: float
    ) -> None:
        device.sends(10)
        known, other = self.after(device, monkeypatch, away)
        other.sends(10)
        assert known and other.lost == [pytest.approx(away, abs=0.01)]

    @pytest.mark.parametrize("away", [-3600.0, 1e9])
    def test_a_clock_that_was_set_tells_nothing(
        self, device: Device, monkeypatch: pytest.MonkeyPatch, away: float
    ) -> None:
        device.sends(10)
        known, other = self.after(device, monkeypatch, away)
        other.sends(10)
        assert not known and other.lost == [] and other.came == 10
