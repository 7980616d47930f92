"""The files of examples/fleet: the command, the server and the metrics know everything that they name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from multires_edge.cli.commands.serve import serve
from tests.conftest import ROOT
from tests.runtime.fleet.cluster import ward_module

FOLDER = ROOT / "examples" / "fleet"


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def workers() -> list[list[str]]:
    """The words of all workers."""
    services = documents("compose.yaml")[0]["services"]
    found = [service["command"] for name, service in services.items() if name.startswith("worker")]
    (container,) = documents("kubernetes.yaml")[0]["spec"]["template"]["spec"]["containers"]
    return [*found, container["args"]]


def test_the_command_takes_the_words_of_workers() -> None:
    assert len(workers()) == 4
    for name, *words in workers():
        assert name == "serve"
        given = serve.make_context(name, words).params
        assert given["nats"].startswith("nats://nats:4222") and given["metrics"] == "0.0.0.0:9464"


def test_prometheus_asks_the_workers_with_their_token() -> None:
    compose, prometheus = documents("compose.yaml")[0], documents("prometheus.yaml")[0]
    (job,) = prometheus["scrape_configs"]
    names = {name for name in compose["services"] if name.startswith("worker")}
    assert {target.partition(":")[0] for each in job["static_configs"] for target in each["targets"]} == names
    token = compose["services"]["worker-1"]["environment"]["MULTIRES_EDGE_TOKEN"]
    assert job["authorization"]["credentials"] == token


def test_mounted_files_are_there() -> None:
    for service in documents("compose.yaml")[0]["services"].values():
        for volume in service.get("volumes", []):
            path = volume.partition(":")[0]
            assert path == "log" or path.endswith(".bundle") or (FOLDER / path).exists()


@pytest.mark.parametrize("name", ["nats.conf", "leaf.conf"])
def test_the_server_takes_its_configuration(name: str) -> None:
    program = Path(sys.executable).parent / "nats-server"
    done = subprocess.run([program, "-t", "-c", FOLDER / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_ward_is_the_same_whenever_asked() -> None:
    ward = ward_module().Ward()
    whole = ward.samples(3, 0, 900)
    assert (ward.samples(3, 400, 100) == whole[400:500]).all()
    assert (ward.samples(4, 0, 900) != whole).any()
    # Einthoven's law, which the quality of leads is judged by.
    assert abs(whole[:, 0] + whole[:, 2] - whole[:, 1]).max() <= 2
