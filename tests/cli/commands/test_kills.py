"""Whatever happens to a run, what it wrote stays: nothing twice, nothing missing, or the file says so."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from multires_edge.export import export_bundle
from tests.cli.commands.kills import run_trial
from tests.conftest import SMALL, random_net, save_published
from tests.runtime.conftest import two_leads

__all__ = ["two_leads"]

# `make test` runs a sample; MULTIRES_KILLS=200 is the whole trial.
KILLS = int(os.environ.get("MULTIRES_KILLS", "6"))


@pytest.mark.slow
def test_runs_that_are_killed(two_leads: Path, tmp_path: Path) -> None:
    card = two_leads.parent / "card.json"
    checkpoint = save_published(random_net(SMALL, seed=4), tmp_path / "other")
    other = export_bundle(checkpoint, tmp_path / "other.bundle", card=card).path
    counts = run_trial(tmp_path / "histories", two_leads, other, KILLS, seed=0)
    print(counts)
    shutil.rmtree(tmp_path / "histories")
    assert counts["kills"] >= KILLS
