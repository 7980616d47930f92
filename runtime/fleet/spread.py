"""Which worker runs which partition: rendezvous hashing, the same on every worker without a leader."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def owner_of(partition: int, workers: Iterable[str]) -> str | None:
    """The worker with the largest hash of itself and the partition; None without workers.

    If a worker comes, partitions move only to it; if one goes, only its partitions move.
    """
    return max(workers, key=lambda worker: (_hash(partition, worker), worker), default=None)


def _hash(partition: int, worker: str) -> bytes:
    return blake2b(f"{partition}/{worker}".encode(), digest_size=8).digest()
