"""``multires-edge stream`` and ``monitor`` with sinks and metrics, as a user types it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb

from tests.cli.commands.test_export import assert_refused
from tests.cli.commands.test_stream import command, killed, recording, run
from tests.cli.commands.test_stream_files import device, lines_of, stopped
from tests.ports import free_port
from tests.runtime.conftest import beats, two_leads
from tests.runtime.ecg.sinks.receivers import Broker, Subscriber, WebServer, broker, web
from tests.waiting import PATIENCE, until

__all__ = ["broker", "recording", "two_leads", "web"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sink", "http://h/#secret=hunter2"), "expected secret=env:NAME or secret=file:PATH"),
        (("--sink", "pager:7"), "a sink of an unknown kind"),
        (("--metrics", "here"), "expected HOST:PORT or PORT"),
        (("--metrics", "0.0.0.0:0"), "set MULTIRES_EDGE_TOKEN"),
        (("--metrics", "127.0.0.1:99999"), "expected HOST:PORT or PORT"),
    ],
)
def test_refusals(
    two_leads: Path, recording: Path, options: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MULTIRES_EDGE_TOKEN", raising=False)
    assert_refused(run(two_leads, recording, *options), message)


@pytest.mark.slow
def test_every_sink_gets_the_lines_of_the_output(
    two_leads: Path, recording: Path, tmp_path: Path, broker: Broker, web: WebServer
) -> None:
    out, folder = tmp_path / "out", tmp_path / "annotations"
    folder.mkdir()
    subscriber = Subscriber(broker.port)
    result = run(
        two_leads, recording, "--threshold", "A=0.01", "--alarm-after", "1s", "--output", out, "--json",
        "--sink", f"mqtt://127.0.0.1:{broker.port}/ecg", "--sink", f"http://127.0.0.1:{web.port}/hook",
        "--sink", f"wfdb:{folder}", "--sink", f"fhir+http://127.0.0.1:{web.port}/Observation#every=4s",
    )  # fmt: skip
    assert (result.exit_code, result.stderr) == (0, "")
    lines = lines_of(out)
    until(lambda: len(subscriber.messages) == len(lines))
    subscriber.close()

    def plain(entry: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in entry.items() if key != "id"}

    assert [plain(json.loads(text)) for _, text in subscriber.messages] == lines
    hooks = [json.loads(body) for path, _, body in web.requests if path == "/hook"]
    assert [plain(entry) for body in hooks for entry in body] == lines
    observations = [json.loads(body) for path, _, body in web.requests if path == "/Observation"]
    assert [o["code"]["text"] for o in observations].count("ECG classification") == 3
    assert [o["valueBoolean"] for o in observations if "valueBoolean" in o] == [True]
    found = wfdb.rdann(str(folder / "a"), "multires")
    assert found.fs == 250 and found.sample.tolist() == [round(250 * e["time"]) for e in lines]


@pytest.mark.slow
def test_killed_and_started_again_the_sinks_continue(two_leads: Path, tmp_path: Path, web: WebServer) -> None:
    """While the run is killed again and again, and the server fails now and then: every line comes, once by
    its id, and each annotation once."""
    np.savez(tmp_path / "a.npz", samples=beats(600, 250), leads=["I", "II"], rate=250, unit="mV")
    out, folder = tmp_path / "out", tmp_path / "annotations"
    folder.mkdir()
    arguments = (
        two_leads, tmp_path / "a.npz", "--every", "0.1s", "--output", out, "--state-file", tmp_path / "state",
        "--state-every", "20ms", "--json", "--sink", f"http://127.0.0.1:{web.port}/",
        "--sink", f"wfdb:{folder}",
    )  # fmt: skip
    for least in (300, 1500, 3000, 4500):
        web.answers = [200, 503, 200, 500]
        complaints = killed(out, 150 * least, *arguments)
        assert "Traceback" not in complaints and "starts with the lines" not in complaints, complaints
    web.answers = []
    process = command(*arguments, stderr=subprocess.PIPE)
    _, complaints = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "Traceback" not in complaints
    lines = lines_of(out)
    named = {entry["id"]: entry for entry in web.entries}
    assert all(named[entry["id"]] == entry for entry in web.entries)
    assert [{k: v for k, v in entry.items() if k != "id"} for entry in named.values()] == lines
    found = wfdb.rdann(str(folder / "a"), "multires")
    assert found.sample.tolist() == [round(25 * (i + 1)) for i in range(6000)] and len(lines) == 6000


@pytest.mark.slow
def test_metrics_and_health_of_a_device(two_leads: Path, tmp_path: Path) -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="needs prometheus-client")
    with device(tmp_path) as address:
        sink = f"http://127.0.0.1:{free_port()}/"
        process = command(
            two_leads, address, "--every", "0.1s", "--metrics", 0, "--sink", sink,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None and process.stdout is not None
        told = process.stderr.readline()
        found = re.search(r"metrics are at (http://127\.0\.0\.1:\d+/)metrics", told)
        assert found, told
        lines = [json.loads(process.stdout.readline()) for _ in range(10)]
        text = urllib.request.urlopen(f"{found[1]}metrics").read().decode()
        values = {
            (s.name, *s.labels.values()): s.value
            for f in parser.text_string_to_metric_families(text)
            for s in f.samples
        }
        assert values["multires_source_up", address] == 1
        assert values["multires_samples_total", address] >= 250
        assert values["multires_decision_latency_seconds_count", address] >= 10
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", e["timing"]["at"]) for e in lines)
        until(lambda: b'"sink"' in urllib.request.urlopen(f"{found[1]}healthz").read())
        health = json.loads(urllib.request.urlopen(f"{found[1]}healthz").read())
        assert health["status"] == "ok" and health["warnings"][0]["sink"] == sink
        messages = stopped(process)
    assert "the server cannot be reached" in messages and "bytes of lines were not sent" in messages


@pytest.mark.slow
def test_the_page_has_sinks_and_metrics_too(two_leads: Path, recording: Path, web: WebServer) -> None:
    line = [sys.executable, "-m", "multires_edge", "monitor", two_leads, recording, "--port", "0"]
    line += ["--speed", "max", "--sink", f"http://127.0.0.1:{web.port}/"]
    process = subprocess.Popen([*map(str, line)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    until(lambda: len(web.entries) == 24, of=process)
    text = urllib.request.urlopen(f"{address}metrics").read().decode()
    assert f'multires_samples_total{{source="{recording}"}} 3000.0' in text
    assert json.loads(urllib.request.urlopen(f"{address}healthz").read())["status"] == "ok"
    process.terminate()
    assert process.communicate(timeout=PATIENCE) == ("", "") and process.returncode == 0
