"""A patient: the same decisions whoever makes them, from whatever message on, and whatever else comes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from multires_edge.runtime import Bundle, EcgStream
from multires_edge.runtime.ecg.settings import StreamOptions
from multires_edge.runtime.fleet.log import Entry
from multires_edge.runtime.fleet.model import Model
from multires_edge.runtime.fleet.packet import Packet, Signal
from multires_edge.runtime.fleet.patient import Message, Patient
from multires_edge.runtime.fleet.position import Position
from tests.runtime import conftest

RATE = 250
SIGNAL = Signal(("I", "II"), RATE, "uV")
NOW = 1_700_000_000.0
RECORDING = int(NOW * 1e6)
OPTIONS = StreamOptions(every="0.2s", pool="window:0.4s", thresholds=("B=0.5:0.49",), gap="restart:0.5s")
SECONDS = 12


@pytest.fixture(scope="module")
def model(opened: Bundle) -> Model:
    return Model(opened, OPTIONS)


def beats(seed: int = 0) -> NDArray[np.int16]:
    """Leads I and II in microvolts, with a heart that gets weaker and stronger."""
    values = conftest.beats(SECONDS, RATE, seed=seed)
    return np.asarray(1000 * values * (1 + np.sin(np.arange(len(values)) / RATE))[:, None], np.int16)


def log_of(
    values: NDArray[np.int16], cuts: Sequence[int], recording: int = RECORDING, first: int = 0
) -> list[Entry]:
    """Packets with the samples between the cuts."""
    edges = sorted({0, len(values), *cuts})
    return [
        entry(i + 1, Packet(SIGNAL, recording, first + a, values[a:b]).to_bytes())
        for i, (a, b) in enumerate(pairwise(edges))
    ]


def entry(sequence: int, data: bytes) -> Entry:
    return Entry("ecg.0.bed", data, sequence, NOW + 60, 0)


def decisions(messages: Sequence[Message]) -> list[bytes]:
    """The lines of decisions, with their alarms."""
    return [message.body for message in messages if b'"decision"' in message.body]


def everything(messages: Sequence[Message]) -> list[bytes]:
    """All lines, however they are spread over messages."""
    return [line for message in messages for line in message.body.split(b"\n")]


PACKETS = st.lists(st.integers(1, SECONDS * RATE - 1), min_size=5, max_size=60)


@settings(max_examples=30)
@given(PACKETS, st.integers(0, 3))
def test_decisions_are_those_of_a_stream_alone(model: Model, cuts: list[int], seed: int) -> None:
    alone = EcgStream(
        model.bundle, leads=SIGNAL.leads, rate=RATE, unit="uV", name="bed", options=model.options
    )
    expected = [d.to_json() for d in alone.feed(beats(seed))]
    messages = Patient("bed", model).take(log_of(beats(seed), cuts))
    lines = [json.loads(body.split(b"\n")[0]) for body in decisions(messages)]
    made, recordings = [line.pop("made") for line in lines], {line.pop("recording") for line in lines}
    assert lines == expected and recordings == {RECORDING}
    assert all(each == model.provenance and each["bundle"] == model.digest for each in made)
    assert len({message.id for message in messages}) == len(messages)


@settings(max_examples=60)
@given(PACKETS, st.data())
def test_another_worker_continues_from_any_message(
    model: Model, cuts: list[int], data: st.DataObject
) -> None:
    """Through a gap that ends the stream, packets that come twice, and any number of takeovers."""
    log = log_of(beats(), cuts)
    lost = data.draw(st.integers(0, len(log) - 1), "lost")
    log = [*log[:lost], *log[lost + 1 :]] or log
    again = data.draw(st.integers(0, len(log) - 1), "again")
    log = [
        replace(e, sequence=i + 1) for i, e in enumerate([*log[: again + 1], log[again], *log[again + 1 :]])
    ]
    alone = Patient("bed", model)
    expected = alone.take(log)
    stored: list[Message] = []
    for stop in sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=4), "stops")):
        stored += _taken_over(model, stored, log[:stop])
        drop = data.draw(st.integers(0, 3), "not stored any more")
        stored = stored[: len(stored) - drop]
    stored += _taken_over(model, stored, log)
    assert decisions(stored) == decisions(expected)
    assert everything(stored) == everything(expected)


def _taken_over(model: Model, stored: list[Message], log: list[Entry]) -> list[Message]:
    position = None
    if stored:
        position = Position.from_header(stored[-1].position.to_header())
        log = [entry for entry in log if entry.sequence >= position.sequence]
    return Patient("bed", model, position).take(log)


@settings(max_examples=30)
@given(st.binary(max_size=80) | st.just(b"MRE1" + bytes(60)), st.integers(0, 8))
def test_foreign_messages_change_nothing(model: Model, foreign: bytes, at: int) -> None:
    log = log_of(beats(), range(0, SECONDS * RATE, RATE))
    expected = Patient("bed", model).take(log)
    patient = Patient("bed", model)
    messages = patient.take([*log[:at], entry(at + 1, foreign), *log[at:]])
    assert [m.body for m in messages] == [m.body for m in expected]
    assert len(patient.refusals) == 1 and "\n" not in patient.refusals[0].reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"signal": Signal(("I", "II"), 500.0, "uV")}, "start a new recording"),
        ({"signal": Signal(("I", "II", "V1"), RATE, "uV")}, "start a new recording"),
        ({"signal": Signal(("I", "II"), RATE, "mV")}, "start a new recording"),
        ({"recording": RECORDING - 1}, "the later recording"),
        ({"recording": 2**63}, "microseconds since 1970"),
        ({"first": 2**60}, "after a gap of a day"),
    ],
)
def test_packets_that_do_not_belong_to_the_recording(
    model: Model, change: dict[str, Any], reason: str
) -> None:
    log = log_of(beats(), range(0, SECONDS * RATE, RATE))
    expected = Patient("bed", model).take(log)
    fields: dict[str, Any] = {"signal": SIGNAL, "recording": RECORDING, "first": 4 * RATE} | change
    wrong = Packet(values=np.zeros((10, len(fields["signal"].leads)), np.int16), **fields)
    patient = Patient("bed", model)
    messages = patient.take([*log[:4], entry(5, wrong.to_bytes()), *log[4:]])
    assert [m.body for m in messages] == [m.body for m in expected]
    assert [reason in refusal.reason for refusal in patient.refusals] == [True]


def test_a_bundle_that_cannot_decide_on_the_leads_says_so_once(model: Model) -> None:
    signal = Signal(("X", "Y"), RATE, "uV")
    packets = [Packet(signal, RECORDING, i * 50, np.zeros((50, 2), np.int16)).to_bytes() for i in range(3)]
    patient = Patient("bed", model)
    assert patient.take([entry(i + 1, data) for i, data in enumerate(packets)]) == []
    reasons = {refusal.reason for refusal in patient.refusals}
    assert len(patient.refusals) == 3 and len(reasons) == 1 and "X, Y" in reasons.pop()
    # A new recording with the right leads is decided on.
    assert decisions(patient.take(log_of(beats(), [], RECORDING + 1)))


def test_a_patient_who_moves_to_another_device(model: Model) -> None:
    """The later recording counts; what the first device still sends does not."""
    first, second = beats(1), beats(2)
    old, new = log_of(first, [1000, 2000]), log_of(second, [1500], RECORDING + 5)
    patient = Patient("bed", model)
    messages = patient.take([*old[:2], *new, old[2]])
    alone = [Patient("bed", model).take(part) for part in (old[:2], new)]
    assert [m.body for m in messages] == [m.body for part in alone for m in part]
    assert len(patient.refusals) == 1
    assert messages[-1].position.is_after(messages[0].position)
