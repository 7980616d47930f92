"""Bundles with taps graphs, and the TensorRT backend on the host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from multires_edge.export import export_bundle
from multires_edge.format.targets import TARGETS
from multires_edge.runtime import Bundle, Stream, open_bundle
from multires_edge.runtime.backends.tensorrt.host import host_stepper
from tests.conftest import random_net, save_published, variant

# What an engine of each graph looks like to the backend: (kind, whether queues are updated in place).
FORMS = {"step in place": ("step", True), "step": ("step", False), "taps": ("taps", False)}


@contextmanager
def target_with_taps(base: str) -> Iterator[str]:
    """A target like ``base`` that wants the taps graph too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TARGETS, "device", replace(TARGETS[base], name="device", taps_graph=True))
        yield "device"


def export(folder: Path, base: str = "cpu", pool: str = "cumulative", **changes: Any) -> Bundle:
    """A small proven bundle with full, step and taps graphs in float32 and float16."""
    checkpoint = save_published(random_net(variant(**changes)), folder / "run")
    with target_with_taps(base) as target:
        path = export_bundle(
            checkpoint, folder / "a.bundle", target=target, pool=pool, precisions=("fp32", "fp16")
        ).path
    return open_bundle(path)


def on_host(bundle: Bundle, form: str, batch: int, precision: str = "fp32") -> Stream:
    """A stream of the TensorRT backend, with everything but the device."""
    kind, in_place = FORMS[form]
    stepper = host_stepper(bundle.path, bundle.manifest, kind, precision, batch, in_place=in_place)
    return bundle.stream_of(stepper, batch, precision)
