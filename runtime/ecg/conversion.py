"""From samples of a source to steps of the network: filled or filtered, resampled, normalized.

Steps never depend on samples of long ago, so a stream can start in the middle of a record. A filter whose
response never ends, and the levels of electrodes, are therefore renewed: a second chain of stages starts at
fixed samples of the record, and takes the place of the first one when it has forgotten its start.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import StateError
from multires_edge.format.arrays import Array
from multires_edge.format.card import Preprocessing
from multires_edge.format.fields import Natural
from multires_edge.format.high_pass import HighPassFilter, Samples
from multires_edge.runtime.ecg.conditioning import LEVEL_KEPT, Levels, LevelsState
from multires_edge.runtime.ecg.gaps import LONGEST_HELD, Hold, HoldState
from multires_edge.runtime.ecg.leads import LeadMap
from multires_edge.runtime.ecg.resample import Resampler, ResamplerState

Steps = NDArray[np.float32]

# A renewal comes after so many times of what a chain needs to forget its start, and after so many seconds.
# Both chains run for one of these times: rare renewals cost less work, and make a replay longer.
_RENEWED_AFTER, _RENEWED_SECONDS = 3, 20.0


@dataclass(frozen=True, eq=False)
class ChainState:
    """The stage that fills gaps, which is Levels if the card has a high-pass filter; the resampler; the
    filter; and the number of the next step."""  # fmt: skip

    hold: HoldState | None
    levels: LevelsState | None
    resampler: ResamplerState
    filter: Annotated[Samples, Array("float64", 2, finite=True)] | None
    next: Natural


@dataclass(frozen=True, eq=False)
class ConversionState:
    """The chain that steps come from, the one that will take its place, and the steps that were not taken."""

    chain: ChainState
    successor: ChainState | None
    ahead: Annotated[Steps, Array("float32", 2, finite=True)]


class Chain:
    """The stages that samples pass, from sample ``start`` on. Sample and step 0 are the record's first."""

    def __init__(
        self, stage: Hold | Levels, resampler: Resampler, high_pass: HighPassFilter | None, start: int
    ) -> None:
        self.stage, self.resampler, self.filter, self.start = stage, resampler, high_pass, start
        self.start_over(start)

    def start_over(self, start: int) -> None:
        """Forget the samples so far; the next one is number ``start``."""
        self.start = start
        self.stage.start_over()
        self.resampler.reset(start)
        if self.filter is not None:
            self.filter.settle()
        self.next = self.resampler.produced

    def process(self, x: Samples) -> Samples:
        """Take samples and return the steps that they complete, from number ``next`` on."""
        return self._count(self._filtered(self.resampler.process(self.stage.process(x))))

    def finish(self) -> Samples:
        """The last steps of the recording."""
        last = self._filtered(self.resampler.finish())
        if self.filter is not None:
            last = np.concatenate([last, self.filter.finish()])
        return self._count(last)

    def _filtered(self, x: Samples) -> Samples:
        return x if self.filter is None else self.filter.process(x)

    def _count(self, steps: Samples) -> Samples:
        self.next += len(steps)
        return steps

    def save(self) -> ChainState:
        return ChainState(
            self.stage.save() if isinstance(self.stage, Hold) else None,
            self.stage.save() if isinstance(self.stage, Levels) else None,
            self.resampler.save(),
            None if self.filter is None else self.filter.state(),
            self.next,
        )

    def load(self, saved: ChainState) -> None:
        """Continue from :meth:`save`. Raises StateError."""
        if isinstance(self.stage, Hold) and saved.hold is not None:
            self.stage.load(saved.hold)
        elif isinstance(self.stage, Levels) and saved.levels is not None:
            self.stage.load(saved.levels)
        else:
            raise StateError("the state is of a card with another high_pass")
        if self.filter is not None:
            if saved.filter is None:
                raise StateError("the state is of a card without high_pass")
            self.filter.restore(saved.filter)
        self.resampler.load(saved.resampler)
        self.start, self.next = saved.resampler.start, saved.next


class Conversion:
    """Converts samples (n, channels) of a source at ``rate`` Hz, NaN without a value, to steps.

    A channel that the source does not have stays at the card's mean. ``fill`` is that of a GapPolicy. The
    card's high-pass filter runs at the network's rate: there it is the filter of the training data, and has a
    fraction of the taps.
    """

    def __init__(self, preprocessing: Preprocessing, leads: LeadMap, rate: float, fill: str) -> None:
        channels, longest = len(leads.channels), round(LONGEST_HELD * rate)
        high_pass, target = preprocessing.high_pass, preprocessing.sampling_rate
        self._preprocessing, self._rate, self._mean = preprocessing, rate, leads.mean
        self._absent = [i for i, name in enumerate(leads.channels) if name in leads.missing]

        def chain(start: int) -> Chain:
            stage = Levels(rate, channels) if high_pass else Hold(fill, leads.mean, longest)
            running = None if high_pass is None else high_pass.filter(target, channels)
            return Chain(stage, Resampler(rate, target, channels), running, start)

        self._chain_from: Callable[[int], Chain] = chain
        self._chain, self._successor = chain(0), None
        self._settling = self._renewal = 0
        if self._chain.filter is not None:
            seconds = self._chain.filter.memory / target + 2 * self._chain.resampler.lookahead + LEVEL_KEPT
            self._settling = math.ceil(seconds * rate) + 1
            self._renewal = max(_RENEWED_AFTER * self._settling, math.ceil(_RENEWED_SECONDS * rate))
        self._ahead: Steps = np.empty((channels, 0), np.float32)

    _successor: Chain | None

    @property
    def _late(self) -> int:
        """The steps that the filter is late."""
        return 0 if self._chain.filter is None else self._chain.filter.delay

    @property
    def delay(self) -> float:
        """Seconds of samples that a step needs after its own time."""
        return self._chain.resampler.lookahead + self._late / self._preprocessing.sampling_rate

    @property
    def memory(self) -> float:
        """Seconds after which steps do not depend on the sample that the conversion started with."""
        if self._renewal:
            return (self._renewal + self._settling + 1) / self._rate + self.delay
        return LONGEST_HELD + 2 * self._chain.resampler.lookahead + 1 / self._rate

    @property
    def ready(self) -> int:
        """The number of steps that were not taken yet."""
        return int(self._ahead.shape[1])

    @property
    def next(self) -> int:
        """The number of the step that :meth:`take` gives next."""
        return self._chain.next - self.ready

    def needed(self, steps: int) -> int:
        """The number of samples of the record that so many steps need."""
        return self._chain.resampler.needed(steps + self._late)

    def outputs(self, samples: int) -> int:
        """The number of steps of a recording with so many samples."""
        return self._chain.resampler.outputs(samples)

    def samples(self, steps: int) -> float:
        """The samples of the source, and parts of one, that so many steps are as long as."""
        return steps * self._chain.resampler.down / self._chain.resampler.up

    def process(self, x: Samples) -> None:
        """Take samples; the steps that they complete are ready afterwards."""
        while self._renewal and len(x):
            count = self._renewal - self._chain.resampler.received % self._renewal
            self._run(x[:count])
            x = x[count:]
            if not self._chain.resampler.received % self._renewal:
                self._successor = self._chain_from(self._chain.resampler.received)
        if len(x):
            self._run(x)

    def _run(self, x: Samples) -> None:
        """Run samples through both chains; the successor takes over at a fixed step."""
        first, steps = self._chain.next, self._chain.process(x)
        if self._successor is None:
            return self._keep(steps)
        own, theirs = self._successor.next, self._successor.process(x)
        change = self.outputs(self._successor.start + self._settling)
        self._keep(steps[: max(0, change - first)])
        if self._successor.next >= change:
            self._keep(theirs[max(0, change - own) :])
            self._chain, self._successor = self._successor, None
        return None

    def finish(self) -> None:
        """Make the last steps of the recording ready."""
        self._keep(self._chain.finish())

    def take(self, steps: int) -> Steps:
        """The next steps, (channels, steps)."""
        x, self._ahead = self._ahead[:, :steps], self._ahead[:, steps:]
        return np.ascontiguousarray(x)

    def start_over(self, start: int = 0) -> None:
        """Forget the samples so far, and the steps that were not taken; the next is sample ``start``."""
        self._chain.start_over(start)
        self._successor = None
        self._ahead = self._ahead[:, :0]

    def _keep(self, x: Samples) -> None:
        """Add steps (n, channels) to those that are ready."""
        if self._chain.filter is not None:
            x[:, self._absent] = self._mean[self._absent]
        self._ahead = np.concatenate([self._ahead, self._preprocessing.normalize(x.T)], 1)

    def save(self) -> ConversionState:
        successor = None if self._successor is None else self._successor.save()
        return ConversionState(self._chain.save(), successor, self._ahead.copy())

    def load(self, saved: ConversionState) -> None:
        """Continue from :meth:`save`. Raises StateError."""
        if len(saved.ahead) != len(self._ahead):
            raise StateError(f"the state's samples are not of {len(self._ahead)} channels")
        self._chain.load(saved.chain)
        self._successor = None
        if saved.successor is not None:
            self._check_successor(saved.chain, saved.successor)
            self._successor = self._chain_from(0)
            self._successor.load(saved.successor)
        self._ahead = saved.ahead.copy()

    def _check_successor(self, chain: ChainState, successor: ChainState) -> None:
        start, received = successor.resampler.start, successor.resampler.received
        newest = received // self._renewal * self._renewal if self._renewal else None
        if start != newest or received != chain.resampler.received or start <= chain.resampler.start:
            raise StateError("the state's chains of stages contradict each other")

    def is_after(self, saved: ConversionState, samples: int, steps: int) -> bool:
        """Whether a state is one after sample number ``samples``, of which so many steps were taken."""
        given = saved.chain.resampler
        complete = max(self.outputs(given.start), given.produced - self._late)
        return (samples, steps + saved.ahead.shape[1]) == (given.received, saved.chain.next) and (
            saved.chain.next == complete
        )
