"""A bundle under a running program: what is loaded is what was opened, and only regular files are read."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from multires_edge.base.errors import BundleError, MultiresError, StateError
from multires_edge.cli.main import main
from multires_edge.export import export_bundle
from multires_edge.format.manifest import Manifest
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.verify import verify_bundle
from tests.conftest import SMALL, random_inputs, random_net, save_published
from tests.forged import change_manifest, replace_file
from tests.hostile import within

X = random_inputs(SMALL, 1, 9)
USES: dict[str, tuple[str, Callable[[Bundle], object]]] = {
    "native stream": ("native/weights.safetensors", lambda bundle: bundle.stream(backend="native")),
    "native whole sequences": ("native/weights.safetensors", lambda bundle: bundle.full(backend="native")),
    "stream in onnxruntime": ("step.onnx", lambda bundle: bundle.stream(backend="onnxruntime")),
    "whole sequences in onnxruntime": ("full.onnx", lambda bundle: bundle.full(provider="cpu")),
    "parity": ("parity.json", lambda bundle: bundle.parity()),
    "verify": ("golden.npz", verify_bundle),
}


class TestAnOpenBundle:
    @pytest.mark.parametrize("use", USES)
    def test_whose_file_changes(self, use: str, bundle: Path) -> None:
        name, load = USES[use]
        opened = open_bundle(bundle)
        load(opened)
        data = bytearray((bundle / name).read_bytes())
        data[-1] ^= 1
        (bundle / name).write_bytes(data)
        with pytest.raises(
            BundleError, match=f"{name}: changed since the bundle was opened .*open the bundle"
        ):
            load(opened)

    @pytest.mark.parametrize("use", USES)
    def test_whose_file_is_cut(self, use: str, bundle: Path) -> None:
        name, load = USES[use]
        opened = open_bundle(bundle)
        os.truncate(bundle / name, 100)
        with pytest.raises(BundleError, match="changed since the bundle was opened"):
            load(opened)

    @pytest.mark.slow
    @pytest.mark.parametrize("use", USES)
    def test_that_is_swapped(self, use: str, bundle: Path, tmp_path: Path) -> None:
        """As an update of a fleet does; every file is there, of another training."""
        other = export_bundle(save_published(random_net(SMALL, seed=7), tmp_path)).path
        _, load = USES[use]
        opened = open_bundle(bundle)
        bundle.rename(tmp_path / "old")
        other.rename(bundle)
        with pytest.raises(BundleError, match="changed since the bundle was opened"):
            load(opened)
        load(open_bundle(bundle))

    def test_a_running_stream_keeps_its_weights(self, bundle: Path) -> None:
        stream, other = (open_bundle(bundle).stream(backend="native") for _ in range(2))
        os.truncate(bundle / "native/weights.safetensors", 0)
        assert np.array_equal(stream.run(X), other.run(X))


class TestStates:
    def test_of_other_weights_of_the_same_checkpoint(self, bundle: Path) -> None:
        """The source in the manifest is a claim; the weights are what a state belongs to."""
        saved = open_bundle(bundle).stream().save_state()
        name = "native/weights.safetensors"
        replace_file(bundle, name, _negated((bundle / name).read_bytes()))
        with pytest.raises(StateError, match="of another model"):
            open_bundle(bundle).stream().load_state(saved)


def _negated(data: bytes) -> bytes:
    """A weights file with the signs of its last tensor turned round."""
    size = struct.unpack("<Q", data[:8])[0]
    values = np.frombuffer(data[8 + size :], np.float32).copy()
    values[-8:] *= -1
    return data[: 8 + size] + values.tobytes()


def _make(kind: str, path: Path, content: bytes) -> None:
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "link out of the bundle":
        outside = path.parents[2] / "outside"
        outside.write_bytes(content)
        path.symlink_to(outside)
    elif kind == "folder":
        path.mkdir()
    else:  # of a terabyte, of which nothing is on the disk
        path.touch()
        os.truncate(path, 1 << 40)


KINDS = ("pipe", "device", "link out of the bundle", "folder")


class TestOnlyRegularFiles:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        "name", ["manifest.json", "step.onnx", "native/weights.safetensors", "parity.json"]
    )
    def test_are_opened(self, kind: str, name: str, bundle: Path) -> None:
        if name == "manifest.json" and kind.startswith("link"):
            pytest.skip("the manifest has no digest to keep")
        _make(kind, bundle / name, (bundle / name).read_bytes())
        with within(5), pytest.raises(BundleError, match=r"not a regular file|link out of the bundle"):
            open_bundle(bundle)

    @pytest.mark.parametrize("kind", [*KINDS, "sparse file"])
    def test_are_read_later(self, kind: str, bundle: Path) -> None:
        opened = open_bundle(bundle)
        name = "native/weights.safetensors"
        _make(kind, bundle / name, (bundle / name).read_bytes())
        with within(5), pytest.raises(BundleError, match=r"regular file|link out|expected at most"):
            opened.stream(backend="native")

    def test_a_manifest_beyond_any_size(self, bundle: Path) -> None:
        os.truncate(bundle / "manifest.json", 1 << 40)
        with (
            within(5),
            pytest.raises(BundleError, match=r"manifest\.json: cannot be read .*expected at most"),
        ):
            open_bundle(bundle)

    def test_links_within_a_bundle_and_to_it(self, bundle: Path) -> None:
        (bundle / "step.onnx").rename(bundle / "renamed")
        (bundle / "step.onnx").symlink_to("renamed")
        (bundle.parent / "current").symlink_to(bundle)
        open_bundle(bundle.parent / "current").stream(backend="onnxruntime")

    def test_a_folder_that_is_a_link(self, bundle: Path) -> None:
        shutil.move(bundle / "native", bundle.parent / "elsewhere")
        (bundle / "native").symlink_to(bundle.parent / "elsewhere")
        with pytest.raises(BundleError, match=r"weights\.safetensors: is a link out of the bundle"):
            open_bundle(bundle)


COMMANDS = ("inspect", "verify", "build --target rtx", "kit -o kit.tar.gz", "stream", "bench --quick")


class TestEveryCommand:
    """A file of a bundle may stop no command, and prints nothing that a terminal obeys."""

    @pytest.mark.parametrize("command", COMMANDS)
    @pytest.mark.parametrize("name", ["pipe", "a\0b", "\x1b[31m", "../other", "/dev/zero", "native/../../x"])
    def test_names_of_files(
        self, command: str, name: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(bundle.parent)
        os.mkfifo(bundle / "pipe")
        np.savez(
            bundle.parent / "record.npz", samples=np.zeros((9, 2)), leads=["I", "II"], rate=100, unit="mV"
        )
        change_manifest(bundle, lambda entry: entry["files"].update({name: "0" * 64}))
        verb, *rest = command.split()
        sources = ["record.npz"] if verb == "stream" else []
        with within(20):
            result = CliRunner().invoke(main, [verb, str(bundle), *sources, *rest])
        assert result.exit_code == 2 and result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ") and line.isprintable()


def test_a_name_that_no_file_can_have() -> None:
    for path in ("a\0b", "a" * 5000):
        with pytest.raises(MultiresError):
            open_bundle(path)


def test_the_manifest_lists_every_file_that_is_read(exported: Path) -> None:
    bundle = open_bundle(exported)
    assert isinstance(bundle.manifest, Manifest)
    for name in bundle.manifest.digests():
        assert bundle.read(name) == (exported / name).read_bytes()
