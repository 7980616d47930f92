"""What a worker decides with: a bundle, the options of its streams, and the provenance of its decisions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

from multires_edge.base.errors import BackendError, InputError
from multires_edge.base.files import sha256_of
from multires_edge.format.manifest import FILE_NAME
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.ecg.replay import Start, replay_from
from multires_edge.runtime.ecg.settings import StreamOptions
from multires_edge.runtime.ecg.sources.protocol import SignalSpec
from multires_edge.runtime.ecg.streams import EcgStreams, preprocessing_of
from multires_edge.runtime.fleet.packet import Signal
from multires_edge.runtime.fleet.position import Position

_ISA = "MULTIRES_ISA"
# Workers may have other backends and precisions: each decision says what made it.
_OWN = ("backend", "precision")


@dataclass(frozen=True)
class Model:
    """Makes the streams of patients.

    Raises InputError if the bundle does not decide on ECG.
    """

    bundle: Bundle
    options: StreamOptions

    def __post_init__(self) -> None:
        preprocessing_of(self.bundle)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the bundle's manifest, which has the digests of all its other files."""
        return sha256_of(self.bundle.path / FILE_NAME)

    @cached_property
    def provenance(self) -> dict[str, str]:
        """What a decision says of its making."""
        return {
            "bundle": self.digest,
            "program": f"multires-edge {version('multires-edge')}",
            "backend": self._backend,
            "precision": self.options.precision,
        } | ({"isa": self.isa} if self._backend == "native" else {})

    @cached_property
    def isa(self) -> str:
        """The instruction set that the native engine uses here. Raises BackendError or BundleError."""
        from multires_edge.runtime.backends.native import open_weights

        return open_weights(self.bundle.path, self.bundle.manifest, self.options.precision).isa

    @property
    def _backend(self) -> str:
        if self.options.backend != "auto":
            return self.options.backend
        return "native" if self.options.precision in self.bundle.manifest.native else "onnxruntime"

    @cached_property
    def replay_seconds(self) -> float:
        """Seconds of samples from which a decision can be made again. Raises InputError if all are."""
        preprocessing = preprocessing_of(self.bundle)
        signal = Signal(tuple(preprocessing.channels), preprocessing.sampling_rate, preprocessing.unit)
        return self.replay_samples(signal) / signal.rate

    def replay_samples(self, signal: Signal) -> int:
        """The same in samples of a signal. Raises MultiresError."""
        samples = self.open("", signal, Start()).replay_samples[0]
        if samples is None:
            raise InputError(
                f"pool is {self.options.pool!r}, which depends on all samples so far, expected one such as "
                "window:10s: a worker that takes a patient over has the last minutes only"
            )
        return samples

    def first_needed(self, signal: Signal, position: Position) -> int:
        """The sample to start with, for what comes after the last decision at a position of any bundle."""
        end = position.decided * signal.rate - 1  # a decision's time is rounded
        return replay_from(position.origin, end, self.replay_samples(signal))

    def settings(self) -> dict[str, Any]:
        """What all workers of a fleet must have in common."""
        options = {key: value for key, value in asdict(self.options).items() if key not in _OWN}
        return options | {"labels": list(self.bundle.class_names)}

    def open(self, name: str, signal: Signal, start: Start) -> EcgStreams:
        """The stream of a patient from a sample of a recording on. Raises MultiresError."""
        spec = SignalSpec(signal.leads, signal.rate, signal.unit, name)
        return EcgStreams(self.bundle, [spec], self.options, lockstep=False, starts=[start])


@contextmanager
def pinned_isa(isa: str | None) -> Iterator[None]:
    """Let the native engine use this instruction set, if one is given, for weights that are loaded inside."""
    before = os.environ.get(_ISA)
    if isa is not None:
        os.environ[_ISA] = isa
    try:
        yield
    finally:
        if before is not None:
            os.environ[_ISA] = before
        else:
            os.environ.pop(_ISA, None)


def check_isa(model: Model, isa: str | None) -> None:
    """Raise BackendError unless the native engine uses this instruction set, if one is given."""
    if isa is not None and model.isa != isa:
        raise BackendError(
            f"the instruction set {isa} is not one of this CPU, which uses {model.isa}: give another --isa"
        )
