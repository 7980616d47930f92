"""A ward in real time, while workers, broker, network and bundle fail or change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from multires_edge.export import export_bundle
from multires_edge.runtime import Bundle
from tests.conftest import DEMO, RECORDED, ROOT

# A lease is 3 s. Faults follow each other sooner than in the whole run.
PATIENTS, EVERY = 40, 4.0
FAILOVER, MOVE = 5.0, 3.0


@pytest.mark.slow
def test_no_decision_is_lost_or_doubled(twelve_leads: Bundle, tmp_path: Path) -> None:
    other = export_bundle(
        RECORDED / "ecg-fading-k2" / "ckpt.pth", tmp_path / "other.bundle", card=DEMO / "card.json"
    ).path
    # Namespaces for the network, and for processes, so that all of them end with the test.
    apart = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    root = os.geteuid() == 0 and subprocess.run([*apart, "true"], check=False).returncode == 0
    command = apart if root else []
    command += [sys.executable, "-m", "tests.runtime.fleet.acceptance", str(twelve_leads.path), str(other)]
    command += ["--patients", str(PATIENTS), "--every", str(EVERY)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout)
    counts = {key: report[key] for key in ("missing", "doubled", "different")}
    assert counts == {"missing": 0, "doubled": 0, "different": 0}, report
    assert report["decisions"] > PATIENTS * 60 and report["alarms"] and report["bundles"] == 2
    late = report["late"]
    assert ("network cut" in late) == root
    failovers = [late[name] for name in ("kill -9", "SIGSTOP", "network cut") if name in late]
    assert "Traceback" not in done.stderr, done.stderr[-4000:]
    # Times are those of the fleet only while its processes get a core when they need one.
    if os.getloadavg()[0] < 2 * (os.cpu_count() or 1):
        busy = 3 * late["start"]  # without a fault, where others use the cores
        assert all(2.0 < seconds < FAILOVER + busy for seconds in failovers), late
        assert late["join"] < MOVE + busy, late
