"""Plans of kernels in a bundle: what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.format.fields import digest_of
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.backends import _native
from multires_edge.runtime.backends.cuda import backend
from multires_edge.runtime.backends.cuda.plans import PLANS, PlannedState, plans_path, read_plans
from tests.hostile import check_hostile

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("driver")]


@pytest.fixture
def copied(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle to damage, on a machine without the native engine."""
    monkeypatch.setattr(backend, "_has_engine", lambda: False)
    return open_bundle(shutil.copytree(planned, tmp_path / "bundle"))


@given(batch=st.integers(1, 5000), multiprocessors=st.integers(1, 200))
def test_blocks_are_those_of_the_engine(planned: Path, batch: int, multiprocessors: int) -> None:
    plan = read_plans(planned, open_bundle(planned).manifest, "fp32").plans[0]
    assert plan.kernel_for(batch, multiprocessors).rows == _native.rows_for(batch, multiprocessors)


def test_no_plan(copied: Bundle) -> None:
    plans_path(copied.path, "fp32").unlink()
    with pytest.raises(BackendError, match=r"no plan of the kernel in fp32, .* --target cuda, where"):
        copied.stream(backend="cuda")


@pytest.mark.parametrize("suffix", ["weights", "ptx"])
def test_a_changed_file(suffix: str, copied: Bundle) -> None:
    for path in (copied.path / "engines").glob(f"*.{suffix}"):
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BundleError, match=rf"{suffix}: changed since"):
        copied.stream(backend="cuda")


def test_other_weights_or_states(copied: Bundle) -> None:
    path = plans_path(copied.path, "fp32")
    plans = PLANS.read(path)
    first = plans.plans[0]
    smaller = replace(first, states=first.states | {"queue_00": PlannedState("float32", (1, 1, 1))})
    for changes, message in (
        ({"native_sha256": "0" * 64}, "is for other weights than those of the bundle; write"),
        ({"plans": (smaller,)}, r"its queue_00 is float32 \(1, 1, 1, 1\), expected float32"),
    ):
        path.write_bytes(PLANS.to_bytes(replace(plans, **changes)))
        with pytest.raises(BundleError, match=message):
            copied.stream(backend="cuda")


def test_generated_hostile_plans(copied: Bundle) -> None:
    path = plans_path(copied.path, "fp32")

    def use(entry: Any) -> None:
        path.write_text(json.dumps(entry | {"sha256": digest_of(entry)}))
        plans = read_plans(copied.path, copied.manifest, "fp32")
        assert plans.plans[0].kernel_for(1, 16).rows >= 1

    taken, refused = check_hostile([json.loads(path.read_text())], use)
    assert taken and refused
