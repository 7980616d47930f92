"""Finds what a device without timestamps lost, from when its samples arrive.

Samples that arrive late are not lost: a network delivers them in a burst after it stood still, and a device
sends packets of seconds. What counts is therefore how far the samples are behind the clock, compared with
before the silence. If they stay behind, that much is missing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

from multires_edge.format.fields import Between, Natural
from multires_edge.runtime.ecg.sources.protocol import Missing, Note, Piece

# A shorter silence is no gap. After a new connection, a shorter time is lost already.
_SILENCE, _RECONNECTED = 1.0, 0.2
# After a silence, samples are held for so many seconds to see whether those before them still come: they then
# catch up by a part of every second.
_WATCHED, _CATCHING_UP = 1.0, 0.2
_LONGEST_HELD = 20.0
# The clock of a device may be this much slow.
_SLOW = 0.05
# After a longer time the clock of this computer is not believed: it was set.
_LONGEST_AWAY = 86_400.0
_LATEST = 1e12

_Seconds = Annotated[float, Between(-_LATEST, _LATEST)]


@dataclass(frozen=True)
class ArrivalsState:
    """The samples so far, and how many seconds they are behind the clock of the day, if that is known."""

    samples: Natural
    behind: _Seconds | None


class Arrivals:
    """Holds samples at ``rate`` Hz after a silence, and puts what is missing in front of them.

    All times are those of one clock, in seconds.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._samples = 0
        self._last = 0.0
        # The least that the samples were behind the clock lately, None before the first sample.
        self._behind: float | None = None
        self._allowed = _SILENCE
        # While it watches: from when on, how far behind the samples were then, and at best since.
        self._watched_from: float | None = None
        self._at_first = self._best = 0.0
        self._held: list[Piece] = []
        self._held_samples = 0

    @property
    def holds(self) -> bool:
        """Whether samples are held back."""
        return self._watched_from is not None

    def take(self, pieces: list[Piece], now: float) -> list[Piece]:
        """Take what arrived, or nothing when time has passed; returns what can go on, which is in order."""
        count = sum(piece.count for piece in pieces)
        if not count:
            if self._watched_from is None:
                return pieces
            self._held += pieces
            return self._verdict(now)
        self._samples += count
        behind = now - self._samples / self._rate
        quiet, self._last = now - self._last, now
        if self._behind is None:
            self._behind = behind
            return pieces
        if self._watched_from is None:
            late, reconnected = behind - self._behind > self._allowed, self._allowed < _SILENCE
            if not (late and (reconnected or quiet > self._allowed)):
                self._allowed = _SILENCE
                self._behind = min(behind, self._behind + _SLOW * quiet)
                return pieces
            self._watched_from, self._at_first, self._best = now, behind, behind
        self._held += pieces
        self._held_samples += count
        self._best = min(self._best, behind)
        return self._verdict(now)

    def _verdict(self, now: float) -> list[Piece]:
        """The held pieces, once it is clear what is missing before them."""
        assert self._behind is not None and self._watched_from is not None
        if self._best - self._behind <= self._allowed:
            return self._release()
        if self._held_samples > _LONGEST_HELD * self._rate:
            # So many cannot come in the time of a verdict unless they catch up.
            held, self._held, self._held_samples = self._held, [], 0
            return held
        if now - self._watched_from < _WATCHED:
            return []
        if self._at_first - self._best > _CATCHING_UP * (now - self._watched_from):
            self._watched_from, self._at_first = now, self._best
            return []
        return self.finish()

    def finish(self) -> list[Piece]:
        """The held pieces, and what is missing before them as far as it is known."""
        if self._watched_from is None or self._behind is None:
            return []
        lost = self._best - self._behind
        missing = round(lost * self._rate)
        if lost <= self._allowed or not missing:
            return self._release()
        self._samples += missing
        return [Note("gap", {"seconds": round(missing / self._rate, 6)}), Missing(missing), *self._release()]

    def _release(self) -> list[Piece]:
        held, self._held, self._held_samples = self._held, [], 0
        self._watched_from, self._allowed = None, _SILENCE
        return held

    def skip(self, samples: int) -> None:
        """Count samples that never arrived."""
        self._samples += samples

    def suspect(self) -> None:
        """Expect that samples were lost, because the device was away."""
        self._allowed = _RECONNECTED

    def save(self, now: float) -> ArrivalsState:
        behind = None if self._behind is None else self._behind + time.time() - now
        return ArrivalsState(self._samples, behind)

    def load(self, saved: ArrivalsState, now: float) -> bool:
        """Continue from :meth:`save`, maybe of another process.

        Returns False if the time between is unknown.
        """
        self._samples = saved.samples
        if saved.behind is None:
            return False
        away = time.time() - saved.samples / self._rate - saved.behind
        if not -_SILENCE < away < _LONGEST_AWAY:
            return False
        self._behind, self._last = saved.behind - time.time() + now, now
        self.suspect()
        return True
