"""From samples of a source to steps of the network: filled or filtered, resampled, normalized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import StateError
from multires_edge.format.arrays import Array
from multires_edge.format.card import Preprocessing
from multires_edge.format.high_pass import Samples
from multires_edge.runtime.ecg.conditioning import Levels, LevelsState
from multires_edge.runtime.ecg.gaps import Hold, HoldState
from multires_edge.runtime.ecg.leads import LeadMap
from multires_edge.runtime.ecg.resample import Resampler, ResamplerState

Steps = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ConversionState:
    """The stage that fills gaps, which is Levels if the card has a high-pass filter; the resampler; the
    filter; and the steps that were not taken yet."""  # fmt: skip

    hold: HoldState | None
    levels: LevelsState | None
    resampler: ResamplerState
    filter: Annotated[Samples, Array("float64", 2, finite=True)] | None
    ahead: Annotated[Steps, Array("float32", 2, finite=True)]


class Conversion:
    """Converts samples (n, channels) of a source at ``rate`` Hz, NaN without a value, to steps.

    A channel that the source does not have stays at the card's mean. ``fill`` is that of a GapPolicy. The
    card's high-pass filter runs at the network's rate: there it is the filter of the training data, and has a
    fraction of the taps.
    """

    def __init__(self, preprocessing: Preprocessing, leads: LeadMap, rate: float, fill: str) -> None:
        channels, high_pass = len(leads.channels), preprocessing.high_pass
        self._preprocessing, self._rate, self._mean = preprocessing, rate, leads.mean
        self._absent = [i for i, name in enumerate(leads.channels) if name in leads.missing]
        self._hold = Hold(fill, leads.mean) if high_pass is None else None
        self._levels = None if high_pass is None else Levels(rate, channels)
        self._resampler = Resampler(rate, preprocessing.sampling_rate, channels)
        self._filter = None
        if high_pass is not None:
            self._filter = high_pass.filter(preprocessing.sampling_rate, channels)
        self._ahead: Steps = np.empty((channels, 0), np.float32)

    @property
    def _stage(self) -> Hold | Levels:
        stage = self._hold or self._levels
        assert stage is not None
        return stage

    @property
    def _late(self) -> int:
        """The steps that the filter is late."""
        return 0 if self._filter is None else self._filter.delay

    @property
    def delay(self) -> float:
        """Seconds of samples that a step needs after its own time."""
        return self._resampler.lookahead + self._late / self._preprocessing.sampling_rate

    @property
    def ready(self) -> int:
        """The number of steps that were not taken yet."""
        return int(self._ahead.shape[1])

    def needed(self, steps: int) -> int:
        """The number of samples since the start that so many steps need."""
        return self._resampler.needed(steps + self._late)

    def outputs(self, samples: int) -> int:
        """The number of steps of a recording with so many samples."""
        return self._resampler.outputs(samples)

    def samples(self, steps: int) -> float:
        """The samples of the source, and parts of one, that so many steps are as long as."""
        return steps * self._resampler.down / self._resampler.up

    def process(self, x: Samples) -> None:
        """Take samples; the steps that they complete are ready afterwards."""
        resampled = self._resampler.process(self._stage.process(x))
        self._keep(resampled if self._filter is None else self._filter.process(resampled))

    def finish(self) -> None:
        """Make the last steps of the recording ready."""
        last = self._resampler.finish()
        if self._filter is not None:
            last = np.concatenate([self._filter.process(last), self._filter.finish()])
        self._keep(last)

    def take(self, steps: int) -> Steps:
        """The next steps, (channels, steps)."""
        x, self._ahead = self._ahead[:, :steps], self._ahead[:, steps:]
        return np.ascontiguousarray(x)

    def start_over(self) -> None:
        """Forget the samples so far, and the steps that were not taken."""
        self._stage.start_over()
        self._resampler.reset()
        if self._filter is not None:
            self._filter.settle()
        self._ahead = self._ahead[:, :0]

    def _keep(self, x: Samples) -> None:
        """Add steps (n, channels) to those that are ready."""
        if self._filter is not None:
            x[:, self._absent] = self._mean[self._absent]
        self._ahead = np.concatenate([self._ahead, self._preprocessing.normalize(x.T)], 1)

    def save(self) -> ConversionState:
        return ConversionState(
            None if self._hold is None else self._hold.save(),
            None if self._levels is None else self._levels.save(),
            self._resampler.save(),
            None if self._filter is None else self._filter.state(),
            self._ahead.copy(),
        )

    def load(self, saved: ConversionState) -> None:
        """Continue from :meth:`save`. Raises StateError."""
        if self._hold is not None and saved.hold is not None:
            self._hold.load(saved.hold)
        elif self._levels is not None and saved.levels is not None:
            self._levels.load(saved.levels)
        else:
            raise StateError("the state is of a card with another high_pass")
        if self._filter is not None:
            if saved.filter is None:
                raise StateError("the state is of a card without high_pass")
            self._filter.restore(saved.filter)
        if len(saved.ahead) != len(self._ahead):
            raise StateError(f"the state's samples are not of {len(self._ahead)} channels")
        self._resampler.load(saved.resampler)
        self._ahead = saved.ahead.copy()

    def is_after(self, saved: ConversionState, samples: int, steps: int) -> bool:
        """Whether a state is one after so many samples, of which so many steps were taken."""
        filtered = max(0, saved.resampler.produced - self._late)
        return (samples, steps + saved.ahead.shape[1]) == (saved.resampler.received, filtered)
