"""What a person sees of an object in a console: one line that says something."""

from __future__ import annotations

from pathlib import Path

import pytest

from multires_edge.runtime import EcgStream, open_bundle


@pytest.mark.parametrize("batch", [1, 3])
def test_of_a_stream_and_its_state(exported: Path, batch: int) -> None:
    bundle = open_bundle(exported)
    stream = bundle.stream(batch, backend="native")
    rows = "1 row" if batch == 1 else "3 rows"
    model = stream.save_state().model
    assert model.startswith(bundle.manifest.source.sha256[:16]) and model.endswith("/cumulative/fp32")
    assert repr(stream) == (
        f"<Stream of {rows}: x ({batch}, 2), {stream.state_bytes:,} bytes per row, {model}, NativeStepper>"
    )
    saved = stream.save_state()
    count, size = len(saved.arrays), sum(array.nbytes for array in saved.arrays.values())
    assert repr(saved) == f"<StreamState of {rows}: {size:,} bytes in {count} arrays, {model}>"


def test_of_a_bundle_and_its_full_graph(exported: Path) -> None:
    bundle = open_bundle(exported)
    assert repr(bundle) == f"<Bundle {exported}: classification with 3 outputs, 2 layers of 8, fp32>"
    assert repr(bundle.full(provider="cpu")) == (
        "<FullGraph: x float32 (batch, 2, time) to logits float32 (batch, 3), by OnnxRuntimeRunner>"
    )


def test_of_electrodes(two_leads: Path) -> None:
    stream = EcgStream(open_bundle(two_leads), leads=["I", "II"], rate=250.0)
    assert repr(stream) == "<EcgStream ecg: I, II at 250 Hz to A, B, C>"
