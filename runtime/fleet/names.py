"""The streams, subjects and limits of a fleet on its broker."""

from __future__ import annotations

import re
from dataclasses import dataclass

from multires_edge.base.errors import InputError

PARTITIONS = 32
LEASE_SECONDS = 3.0
# How long samples are kept by default, in seconds.
KEPT_SECONDS = 600.0
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Names:
    """Devices publish on SAMPLES.PATIENT, decisions are on DECISIONS.PATIENT; both are names of streams too.

    The broker stores the samples of a patient as SAMPLES.PARTITION.PATIENT.
    """

    samples: str = "ecg"
    decisions: str = "decisions"

    def __post_init__(self) -> None:
        for what, name in (("samples", self.samples), ("decisions", self.decisions)):
            check_token(name, f"the name of the {what}")
        if self.samples == self.decisions:
            raise InputError(f"samples and decisions are both named {self.samples!r}, expected two names")

    @property
    def leases(self) -> str:
        """The bucket with the leases."""
        return f"{self.decisions}-leases"

    @property
    def workers(self) -> str:
        """The subject on which workers say that they are there. No stream keeps it."""
        return f"multires.workers.{self.decisions}"

    def samples_of(self, patient: str) -> str:
        """The subject of a patient's samples in the stream, whatever the partition."""
        return f"{self.samples}.*.{patient}"

    def partition(self, number: int) -> str:
        """The subject of all samples of a partition."""
        return f"{self.samples}.{number}.*"

    def decisions_of(self, patient: str) -> str:
        return f"{self.decisions}.{patient}"


def patient_of(subject: str) -> str:
    """The patient of a subject of samples."""
    return subject.rpartition(".")[2]


def check_token(name: str, what: str) -> None:
    """Raise InputError unless a name can be a stream of NATS and a part of a subject."""
    if not _NAME.fullmatch(name):
        raise InputError(f"{what} is {name!r:.80}, expected 1 to 64 letters, digits, - or _")
