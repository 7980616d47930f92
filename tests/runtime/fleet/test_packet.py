"""The wire format: what is written is read, and nothing else is."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from multires_edge.base.errors import DataError
from multires_edge.runtime.fleet.packet import (
    KINDS,
    MISSING,
    UNITS,
    Packet,
    Signal,
    physical,
    read_packet,
)

NAMES = st.text(st.characters(exclude_characters=",", exclude_categories=["Cs"]), min_size=1, max_size=8)
NUMBERS = st.floats(1e-6, 1e6)


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    kind = draw(st.sampled_from([0, 1]))
    leads = tuple(draw(st.lists(NAMES, min_size=1, max_size=16)))
    signal = Signal(leads, draw(NUMBERS), draw(st.sampled_from(UNITS)), draw(NUMBERS), kind)
    shape = draw(st.integers(1, 40)), len(leads)
    elements = st.integers(-(2**15), 2**15 - 1) if kind == 0 else st.floats(width=32, allow_infinity=False)
    values = draw(arrays.arrays(KINDS[kind], shape, elements=elements))
    numbers = st.integers(0, 2**64 - 1)
    return Packet(signal, draw(numbers), draw(numbers), values)


@settings(max_examples=60)
@given(packets())
def test_a_packet_is_read_as_it_was_written(packet: Packet) -> None:
    read = read_packet(packet.to_bytes())
    assert (read.signal, read.recording, read.first) == (packet.signal, packet.recording, packet.first)
    assert read.values.tobytes() == packet.values.tobytes()
    values = physical(read.values, read.signal)
    lost = np.isnan(packet.values) if packet.signal.kind else packet.values == MISSING
    assert values.shape == packet.values.shape
    assert (np.isnan(values) == lost).all()
    expected = packet.values.astype(np.float64) * packet.signal.gain
    assert np.allclose(values[~lost], expected[~lost], rtol=1e-6, atol=0)


@settings(max_examples=60)
@given(packets(), st.data())
def test_no_part_of_a_packet_is_one(packet: Packet, data: st.DataObject) -> None:
    whole = packet.to_bytes()
    wrong = data.draw(
        st.one_of(
            st.integers(0, len(whole) - 1).map(lambda end: whole[:end]),
            st.binary(min_size=1, max_size=9).map(lambda more: whole + more),
            st.binary(max_size=200),
        )
    )
    with pytest.raises(DataError) as refused:
        read_packet(wrong)
    assert "\n" not in str(refused.value)


@settings(max_examples=60)
@given(packets(), st.data())
def test_changed_bytes_are_refused_or_read(packet: Packet, data: st.DataObject) -> None:
    """Any bytes are a packet with its shape, or refused with a line."""
    changed = bytearray(packet.to_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = read_packet(bytes(changed))
    except DataError as error:
        assert len(str(error)) < 400
    else:
        assert read.values.shape == (len(read.values), len(read.signal.leads)) and len(read.values)
        assert not np.isinf(read.values).any()


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values_are_refused(value: float) -> None:
    packet = Packet(Signal(("I",), 500.0, "mV", 1.0, 1), 1, 0, np.array([[0.0], [value]], np.float32))
    with pytest.raises(DataError, match="infinite"):
        read_packet(packet.to_bytes())


def test_the_documented_layout() -> None:
    """As a device without this package writes it."""
    head = struct.pack("<4sBBHQQddHH", b"MRE1", 0, 0, 2, 1_700_000_000_000_000, 1000, 500.0, 2.5, 4, 0)
    packet = read_packet(head + b"I,II" + struct.pack("<4h", 1, -2, 3, -32768))
    assert packet.signal == Signal(("I", "II"), 500.0, "uV", 2.5)
    assert (packet.recording, packet.first, packet.end) == (1_700_000_000_000_000, 1000, 1002)
    assert physical(packet.values, packet.signal)[0].tolist() == [2.5, -5.0]
    assert physical(packet.values, packet.signal)[1, 0] == 7.5
    assert np.isnan(physical(packet.values, packet.signal)[1, 1])
