"""Where a bundle with a longer memory finds the samples that it needs."""

from __future__ import annotations

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from multires_edge.runtime.fleet.packet import Packet, Signal
from multires_edge.runtime.fleet.partition import Partition

SIGNAL = Signal(("I",), 500.0, "uV")


class Log(Partition):
    """A partition whose patient has packets with these sequences, each of ten samples."""

    def __init__(self, sequences: list[int]) -> None:
        self.sequences, self.asked = sequences, 0

    async def _packet(self, name: str, sequence: int) -> tuple[int, Packet] | None:
        self.asked += 1
        for i, each in enumerate(self.sequences):
            if each >= sequence:
                return each, Packet(SIGNAL, 7, 10 * i, np.zeros((10, 1), np.int16))
        return None


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=60, unique=True).map(sorted), st.data())
def test_the_packet_with_a_sample_is_found(sequences: list[int], data: st.DataObject) -> None:
    latest = data.draw(st.integers(0, len(sequences) - 1), "the packet of the position")
    sample = data.draw(st.integers(0, 10 * latest + 9), "sample")
    log = Log(sequences)
    found = asyncio.run(log._find("bed", (7, sample), sequences[latest]))
    assert found <= sequences[latest]
    # The first packet from there on has the sample, or comes before it by less than a packet.
    first = next(i for i, each in enumerate(sequences) if each >= found)
    assert first == sample // 10
    distance = sequences[latest] - sequences[first]
    assert log.asked <= 3 + 2 * (distance + 2).bit_length()
