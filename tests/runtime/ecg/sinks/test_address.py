"""Addresses of sinks, and what a user can do wrong in them."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from multires_edge.base.errors import InputError, MissingExtraError, MultiresError
from multires_edge.runtime.ecg.sinks import registry
from multires_edge.runtime.ecg.sinks.address import SinkAddress
from multires_edge.runtime.ecg.sinks.choice import Choice
from multires_edge.runtime.ecg.sinks.protocol import About, Sink
from multires_edge.runtime.ecg.sinks.registry import open_sinks
from tests.runtime.ecg.sinks.receivers import ABOUT, decision, event


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mqtt", "has no scheme, expected such as mqtt://HOST/TOPIC"),
        ("gopher://host/a", "a sink of an unknown kind, expected one of mqtt"),
        ("mqtt://host", "expected mqtt://HOST/TOPIC"),
        ("mqtt://host/a/%2B", "expected mqtt://HOST/TOPIC"),
        ("mqtt://host/{patient}", "expected mqtt://HOST/TOPIC"),
        ("mqtt:host/a", "is no address of an MQTT broker"),
        ("mqtt://host:port/a", "is no address of an MQTT broker"),
        ("mqtt://host/a#qos=3", "expected 0, 1 or 2"),
        ("mqtt://host/a#retain=yes", "expected 0, 1 or 2 and 0 or 1"),
        ("mqtt://host/a#qoss=1", "the option 'qoss' is unknown, expected one of password, ca"),
        ("mqtt://host/a#qos", "has the option 'qos', expected NAME=VALUE"),
        ("mqtt://host/a#qos=1&qos=1", "has the option 'qos=1', expected NAME=VALUE once"),
        ("mqtts://host/a#ca=/none", "ca, cert and key cannot be used"),
        ("http://", "is no address of a server"),
        ("http://host/a b", "has blanks or other characters"),
        ("http://host/#secret=hunter2", "expected secret=env:NAME or secret=file:PATH"),
        ("http://host/#secret=env:MULTIRES_NONE", "secret of env:MULTIRES_NONE is not a line"),
        ("http://host/#token=file:/none", "token cannot be read from /none"),
        ("http://host/#every=often", "every is 'often'"),
        ("http://host/#send=lines", "send is 'lines', expected one of all"),
        ("fhir+http://host/Observation#subjects=/none", "subjects cannot be read from /none"),
        ("wfdb:/none", "/none: no such folder"),
        ("wfdb:/tmp#qos=1", "the option 'qos' is unknown"),
    ],
)
def test_refusals(spec: str, message: str) -> None:
    with pytest.raises(MultiresError) as refused:
        open_sinks([spec], ABOUT)
    assert message in str(refused.value) and "hunter2" not in str(refused.value)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    for spec in (
        "mqtt://ann:hunter2@host/a",
        "https://ann:hunter2@host/a",
        "ann:hunter2@host",
        "mqtt:a:hunter2@b",
    ):
        with pytest.raises(InputError) as refused:
            open_sinks([spec], ABOUT)
        assert "hunter2" not in str(refused.value)


def test_a_sink_twice() -> None:
    with pytest.raises(InputError, match="given twice"):
        open_sinks(["http://host/a", "http://host/a#send=alarms"], ABOUT)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("MQTT://ann@host/a", "mqtt://host/a"),
        ("https://host/a?key=secret#send=all", "https://host/a"),
        ("wfdb:some/folder?", "wfdb:some/folder?"),
        ("https://host/a@b", "https://host/a@b"),
    ],
)
def test_names(spec: str, name: str) -> None:
    assert SinkAddress.parse(spec).name == name


def test_secrets_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    secret = SinkAddress.parse(f"http://host/#token=file:{path}").secret("token")
    assert secret is not None and secret() == "one"
    path.write_text("two\n")
    assert secret() == "two"
    monkeypatch.setenv("A_TOKEN", "three")
    secret = SinkAddress.parse("http://host/#token=env:A_TOKEN").secret("token")
    assert secret is not None and secret() == "three"
    path.write_text("two\nlines")
    with pytest.raises(InputError, match="is not a line of text"):
        SinkAddress.parse(f"http://host/#token=file:{path}").secret("token")


def test_a_pipe_is_no_secret(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="cannot be read"):
        SinkAddress.parse(f"http://host/#token=file:{tmp_path}/pipe").secret("token")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"\[mqtt\]"):
        open_sinks(["mqtt://host/a"], ABOUT)


def test_a_sink_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    pager: Any = object()

    def open_pager(address: SinkAddress, about: About) -> Sink:
        asked.append((address.rest, about))
        return pager  # type: ignore[no-any-return]

    class Point:
        def load(self) -> Any:
            return open_pager

    monkeypatch.setattr(registry, "_installed", lambda: {"pager": Point()})
    (found,) = open_sinks(["pager:7#send=alarms"], ABOUT)
    assert (found.name, found.sink, found.choice.send) == ("pager:7", pager, "alarms")
    assert asked == [("7", ABOUT)]


class TestChoice:
    LINES = (decision(0.5), event(0.5, "onset", label="A"), event(1.0, "lost", label="A"), event(1.0, "gap"))

    @pytest.mark.parametrize(
        ("send", "taken"),
        [("all", [0, 1, 2, 3]), ("decisions", [0]), ("events", [1, 2, 3]), ("alarms", [1, 2])],
    )
    def test_kinds(self, send: str, taken: list[int]) -> None:
        choice = Choice(send)
        assert [i for i, entry in enumerate(self.LINES) if choice.takes(entry)] == taken

    @pytest.mark.parametrize("interval", [0.01, 0.1, 0.5, 1.0])
    @pytest.mark.parametrize("every", [1.0, 10.0])
    def test_one_in_some_seconds(self, interval: float, every: float) -> None:
        """Also if the times do not begin at a multiple of the interval, as after a restart of the source."""
        for offset in (0.0, 0.003, interval / 3):
            times = [round(offset + interval * i, 6) for i in range(1, round(100 / interval) + 1)]
            taken = [t for t in times if Choice("all", every, interval).takes(decision(t))]
            assert len(taken) == pytest.approx(100 / every, abs=1)
            assert all(
                b - a == pytest.approx(every, abs=interval * 1.01) for a, b in itertools.pairwise(taken)
            )
        assert Choice("all", every, interval).takes(event(0.3, "gap"))
