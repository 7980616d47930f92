"""Generated hostile files, their digests right: each is refused in one line, or used rightly.

``MULTIRES_HOSTILE=500 pytest -n 2 tests/runtime/test_hostile_files.py`` tries 500 of each kind.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from multires_edge.base.errors import StateError
from multires_edge.calibration import CalibrationTable, calibrate
from multires_edge.cli.main import main
from multires_edge.export import ExportOptions, Int8Options, export_bundle
from multires_edge.export.folding import fold
from multires_edge.export.precision.int8 import quantize
from multires_edge.format.card import read_card
from multires_edge.format.fields import digest_of, plain
from multires_edge.format.schema import CARD_SCHEMA, MANIFEST_SCHEMA
from multires_edge.runtime import Bundle, EcgStream, StreamState, open_bundle
from multires_edge.runtime.ecg.checkpoint import Checkpoint
from multires_edge.runtime.ecg.file_mark import FileMark
from multires_edge.runtime.ecg.session import Session
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Format
from multires_edge.runtime.ecg.state_file import StateFile
from multires_edge.runtime.ecg.streams import EcgStreams
from multires_edge.runtime.evaluation.dataset import Dataset
from multires_edge.runtime.verify import verify_bundle
from tests.conftest import SMALL, random_inputs, random_net, save_published
from tests.hostile import check_hostile
from tests.runtime.conftest import CARD, beats

NET = random_net(SMALL)


@pytest.mark.slow
def test_manifests(tmp_path: Path, two_leads: Path) -> None:
    """What is taken gives the recorded outputs, and its labels name them."""
    rich = _every_kind(tmp_path)
    examples = [_read(rich / "manifest.json"), _read(two_leads / "manifest.json")]
    homes = {
        digest_of(entry["source"]): path for entry, path in zip(examples, (rich, two_leads), strict=True)
    }
    schema = jsonschema.Draft202012Validator(_read(MANIFEST_SCHEMA))
    number = 0

    def use(entry: Any) -> None:
        nonlocal number
        number += 1
        try:
            home = homes[digest_of(entry["source"])]
        except (KeyError, TypeError, AttributeError):
            home = rich
        folder = _hard_copy(home, tmp_path / str(number))
        (folder / "manifest.json").write_text(json.dumps(entry | {"sha256": digest_of(entry)}))
        shown = CliRunner().invoke(main, ["inspect", str(folder)])
        assert shown.exit_code in (0, 2) and "this is a bug" not in shown.output
        bundle = open_bundle(folder)
        assert schema.is_valid(bundle.manifest.to_json())
        assert shown.exit_code == 0 and all(c.isprintable() or c == "\n" for c in shown.output)
        assert all(check.passed for check in verify_bundle(bundle))
        _decide(bundle)

    taken, refused = check_hostile(examples, use)
    assert taken and refused > taken


def test_cards(tmp_path: Path, two_leads: Path) -> None:
    path, opened = tmp_path / "card.json", open_bundle(two_leads)
    entry = _read(two_leads / "manifest.json")
    schema = jsonschema.Draft202012Validator(_read(CARD_SCHEMA))

    def use(card: Any) -> None:
        path.write_text(json.dumps(card))
        read = read_card(path, SMALL)
        assert schema.is_valid(card)
        if read.preprocessing is not None:
            assert np.isfinite(read.preprocessing.normalize(np.zeros((2, 5)))).all()
        about = {
            key: card[key] for key in ("name", "description", "output", "source", "license") if key in card
        }
        written = entry | {key: card.get(key) for key in ("preprocessing", "labels")} | {"card": about}
        folder = _hard_copy(opened.path, tmp_path / "bundle")
        (folder / "manifest.json").write_text(json.dumps(written | {"sha256": digest_of(written)}))
        _decide(open_bundle(folder))

    taken, refused = check_hostile([CARD | {"name": "a", "description": "b", "license": "c"}], use)
    assert taken and refused


@pytest.mark.slow
def test_calibration_tables(tmp_path: Path) -> None:
    path, network = tmp_path / "table.json", fold(NET)
    calibrate(NET, Dataset(Path("some.npz"), random_inputs(SMALL, 20, 100))).write(path)

    def use(table: Any) -> None:
        path.write_text(json.dumps(table))
        read = CalibrationTable.read(path)
        read.check_network(NET)
        for layer in quantize(network, read).layers:
            assert np.isfinite(layer.mixing.weight).all()

    taken, refused = check_hostile([_read(path)], use)
    assert taken and refused > taken


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_states_of_streams(tmp_path: Path, precision: str) -> None:
    """What is taken is continued: every output is finite, or refused with the rows to reset."""
    bundle = open_bundle(_every_kind(tmp_path))
    x = random_inputs(SMALL, 2, 40)
    stream = bundle.stream(2, precision=precision)
    stream.run(x)
    saved = stream.save_state()
    header = {"version": 1, "model": saved.model, "batch": 2}
    example = {"header": header, "arrays": dict(saved.arrays)}

    def use(state: Any) -> None:
        data = _state_bytes(state)
        for backend in ("native", "onnxruntime"):
            other = bundle.stream(2, precision=precision, backend=backend)
            other.load_state(StreamState.from_bytes(data))
            assert np.isfinite(other.run(x)).all()

    taken, refused = check_hostile([example], use)
    assert taken and refused > taken


@pytest.mark.slow
def test_states_of_runs(tmp_path: Path, two_leads: Path) -> None:
    """What is taken runs to the end of its recording."""
    bundle, file = open_bundle(two_leads), StateFile(tmp_path / "state")
    np.savez(tmp_path / "a.npz", samples=beats(33, 250), leads=["I", "II"], rate=250, unit="mV")

    def session() -> Session:
        source = open_source(str(tmp_path / "a.npz"), Format(250, "mV"))
        streams = EcgStreams(
            bundle, [source.signal], gap="restart:1s", thresholds=["A=0.405:0.402"], pool="window:2s"
        )
        return Session(streams, [source])

    started = session()
    rounds = started.run()
    next(rounds), next(rounds)
    file.write(plain(Checkpoint({"pool": "window:2s"}, FileMark(100, "0" * 64), 0.0, started.save())))
    example = file.read()[0]

    def use(tree: Any) -> None:
        file.write(tree)
        checkpoint = Checkpoint.from_tree(file.read()[0])
        checkpoint.check_options({"pool": "window:2s"})
        continued = session()
        continued.load(checkpoint.session)
        items = [item.to_json() for items in continued.run() for item in items]
        json.dumps(items, allow_nan=False)

    taken, refused = check_hostile([example], use)
    assert taken and refused > taken


def _every_kind(folder: Path) -> Path:
    """A bundle with int8, graphs in two forms, taps and a window."""
    np.savez(folder / "data.npz", x=random_inputs(SMALL, 20, 100), labels=np.arange(20) % SMALL.d_output)
    options = ExportOptions(
        precisions=("fp32", "int8"),
        target="cpu,jetpack6",
        pool="window:9",
        int8=Int8Options(data=folder / "data.npz"),
    )
    return export_bundle(save_published(NET, folder / "run"), folder / "rich.bundle", options).path


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def _hard_copy(bundle: Path, folder: Path) -> Path:
    """A copy of a bundle without its manifest, its files linked."""
    for path in bundle.rglob("*"):
        if path.is_file() and path.name != "manifest.json":
            copy = folder / path.relative_to(bundle)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not copy.exists():
                os.link(path, copy)
    return folder


def _decide(bundle: Bundle) -> None:
    """Decide on a beat or two, if the bundle has a card."""
    if bundle.preprocessing is None:
        return
    leads, rate = bundle.preprocessing.channels, 250
    stream = EcgStream(bundle, leads=leads, rate=rate, unit=bundle.preprocessing.unit, every=5)
    for decision in stream.feed(beats(3, rate, leads=len(leads))) + stream.finish():
        if decision.probabilities is not None:
            assert list(decision.probabilities) == bundle.class_names
            assert all(0 <= p <= 1 for p in decision.probabilities.values())


def _state_bytes(state: Any) -> bytes:
    try:
        arrays = {str(name): np.asarray(array) for name, array in state["arrays"].items()}
        buffer = io.BytesIO()
        np.savez(buffer, multires_stream_state=np.array(json.dumps(state["header"])), **arrays)  # type: ignore[arg-type]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StateError("no such file can be written") from error
    return buffer.getvalue()
