"""Which worker has which partition."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from multires_edge.runtime.fleet.spread import owner_of

WORKERS = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=8, unique=True)


@given(WORKERS, st.text(min_size=13, max_size=14), st.integers(0, 999))
def test_partitions_move_only_to_a_new_worker(workers: list[str], new: str, partition: int) -> None:
    before, after = owner_of(partition, workers), owner_of(partition, [*workers, new])
    assert after in (before, new)


@given(WORKERS, st.integers(0, 999))
def test_the_order_of_the_workers_does_not_matter(workers: list[str], partition: int) -> None:
    assert owner_of(partition, workers) == owner_of(partition, reversed(workers))


def test_shares_are_alike() -> None:
    shares = Counter(owner_of(partition, ["a", "b", "c"]) for partition in range(3000))
    assert len(shares) == 3 and min(shares.values()) > 900
    assert owner_of(0, []) is None
