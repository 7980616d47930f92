"""From samples of one source to decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.ecg.decision import Decision, Event
from multires_edge.runtime.ecg.replay import Start
from multires_edge.runtime.ecg.settings import StreamOptions
from multires_edge.runtime.ecg.sources.protocol import SignalSpec
from multires_edge.runtime.ecg.streams import EcgStreams, StreamsState


class EcgStream:
    """The stream of one source: it takes samples at the source's rate and returns decisions.

    ``options`` or keyword arguments are those of :class:`StreamOptions`. ``events`` collects the events; a
    program may clear it.

    The first sample to feed is number ``start`` of the record. From ``replay_samples`` samples after it on,
    the decisions have the bits of a stream that has run from the record's start; those before are left out.
    ``origin`` is the sample with which the record started over last, after a long gap. To continue after a
    decision, with its alarms, give ``start=decision.replay_from, carry=decision.carry``; the first decision
    is then the next one. Raises InputError for a start after which the bits would differ, and StateError for
    a damaged carry, or one of other settings.

    >>> import numpy as np
    >>> from multires_edge.runtime import EcgStream, open_bundle
    >>> leads = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    >>> stream = EcgStream(open_bundle("out/demo.bundle"), leads=leads, rate=500, unit="mV", every="1s")
    >>> samples = np.random.default_rng(0).normal(0, 0.2, (1700, 12))  # 3.4 s, (n, leads) for any n
    >>> for decision in stream.feed(samples):
    ...     print(decision.time, list(decision.probabilities), decision.quality["V1"])
    1.0 ['CD', 'HYP', 'MI', 'NORM', 'STTC'] ('noise',)
    2.0 ['CD', 'HYP', 'MI', 'NORM', 'STTC'] ('noise',)
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        leads: Sequence[str],
        rate: float = 500.0,
        unit: str | Sequence[str] = "mV",
        name: str = "ecg",
        options: StreamOptions | None = None,
        start: int = 0,
        origin: int = 0,
        carry: bytes | None = None,
        **keywords: Any,
    ) -> None:
        self._signal = SignalSpec(leads, rate, unit, name)
        starts = [Start(start, origin, carry)]
        self._streams = EcgStreams(bundle, [self._signal], options, starts=starts, **keywords)
        self.labels = self._streams.labels
        self.events: list[Event] = []

    def __repr__(self) -> str:
        leads, labels = ", ".join(self._signal.leads), ", ".join(self.labels)
        return f"<EcgStream {self._signal.name}: {leads} at {self._signal.rate:g} Hz to {labels}>"

    @property
    def delay(self) -> float:
        """The delay of decisions by the high-pass filter and the resampler, in seconds."""
        return self._streams.fronts[0].delay

    @property
    def replay_samples(self) -> int | None:
        """After so many samples, decisions do not depend on the stream's start; None if they always do.

        It is None for a pool of all samples so far.
        """
        return self._streams.replay_samples[0]

    def feed(self, samples: NDArray[Any], arrived: float | None = None) -> list[Decision]:
        """Take samples (n, leads), for any n; returns the decisions that they complete."""
        self._streams.feed(0, samples, arrived)
        return self._pump()

    def missing(self, count: int) -> list[Decision]:
        """Take ``count`` samples that never arrived."""
        self._streams.missing(0, count)
        return self._pump()

    def prepare(self) -> None:
        """Work ahead while the program waits for samples; see :meth:`EcgStreams.prepare`."""
        self._streams.prepare(0)

    def finish(self) -> list[Decision]:
        """End the record; returns the decisions that waited for the resampler."""
        self._streams.finish(0)
        return self._pump()

    def save(self) -> StreamsState:
        """See :meth:`EcgStreams.save`."""
        return self._streams.save()

    def load(self, saved: StreamsState) -> None:
        """See :meth:`EcgStreams.load`."""
        self._streams.load(saved)

    def _pump(self) -> list[Decision]:
        decisions = []
        for item in self._streams.pump():
            if isinstance(item, Decision):
                decisions.append(item)
            else:
                self.events.append(item)
        return decisions
