"""``multires-edge kit``: the archive, and who gets none."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from multires_edge.base.errors import BundleError
from multires_edge.base.files import sha256_of
from multires_edge.cli.main import main
from multires_edge.format.comparison import LIMITS
from multires_edge.format.fields import digest_of
from multires_edge.format.golden import Golden
from multires_edge.format.pooling import CUMULATIVE, Window
from multires_edge.runtime.bundle import open_bundle
from multires_edge.runtime.kit.archive import PACKAGES, make_kit, manifest_for
from multires_edge.runtime.kit.cases import reference_states, sequence_cases, stream_cases
from multires_edge.runtime.kit.description import Case, SequenceCase


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_same_bytes_again(for_jetson: Path, packed: bytes) -> None:
    assert make_kit(open_bundle(for_jetson), target="jetpack6") == packed


def test_members_are_safe_and_say_nothing_of_their_making(packed: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        members = tar.getmembers()
    names = [member.name for member in members]
    assert names == sorted(names) and len({name.split("/")[0] for name in names}) == 1
    for member in members:
        assert member.isfile() and not member.name.startswith("/") and ".." not in member.name.split("/")
        assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")


def test_every_file_has_its_digest(kit: Path) -> None:
    entry = json.loads((kit / "kit.json").read_text())
    there = {path.relative_to(kit).as_posix() for path in kit.rglob("*") if path.is_file()}
    assert set(entry["files"]) == there - {"kit.json"}
    assert all(sha256_of(kit / name) == spec["sha256"] for name, spec in entry["files"].items())
    assert entry["sha256"] == digest_of(entry)


def test_the_program_is_the_package_itself(kit: Path) -> None:
    for path in (kit / "multires_edge").rglob("*.py"):
        name = ".".join(path.relative_to(kit).with_suffix("").parts).removesuffix(".__init__")
        own = import_module(name).__file__
        assert own is not None and path.read_bytes() == Path(own).read_bytes(), name
        assert name in PACKAGES or name.rpartition(".")[0] in PACKAGES


# A device has numpy 1.21. These came later.
LATER = re.compile(
    r"\bnp\.(astype|bitwise_(count|invert)|bool|concat|cumulative_\w+|dtypes|exceptions|from_dlpack|isdtype|long|"
    r"mat(rix_transpose|vec)|permute_dims|pow|strings|trapezoid|ulong|unique_\w+|unstack|vec(dot|mat))\b"
)


def test_the_program_asks_numpy_for_nothing_later(kit: Path) -> None:
    for path in (kit / "multires_edge").rglob("*.py"):
        assert not LATER.search(path.read_text()), path


def test_the_bundle_is_that_of_the_target(for_jetson: Path, kit: Path) -> None:
    manifest, whole = open_bundle(kit / "bundle").manifest, open_bundle(for_jetson).manifest
    assert manifest.graphs == whole.graphs and set(manifest.graphs) == {"full", "step", "taps"}
    assert manifest.native == whole.native and set(manifest.files) == {"golden.npz", "parity.json"}
    there = {path.relative_to(kit / "bundle").as_posix() for path in (kit / "bundle").rglob("*.*")}
    assert there == {"manifest.json", *manifest.digests()}


def test_a_bundle_of_several_targets_gives_each_its_forms(opset24: None, exported: Path) -> None:
    manifest = open_bundle(exported).manifest
    manifest = replace(manifest, forms={"opset17": manifest.graphs})
    assert list(manifest_for(manifest, "jetpack7", ()).by_form) == ["opset24", "opset17"]
    only = manifest_for(manifest, "jetpack6", ())
    assert list(only.by_form) == ["opset17"] and only.targets == {"jetpack6": ("opset17",)}


def test_the_command(for_jetson: Path, packed: bytes, tmp_path: Path) -> None:
    file = tmp_path / "kit.tar.gz"
    result = run("kit", for_jetson, "--target", "jetpack6", "-o", file)
    assert result.exit_code == 0, result.output
    assert file.read_bytes() == packed
    assert run("kit", for_jetson, "--target", "jetpack6", "-o", file).exit_code == 2
    assert run("kit", for_jetson, "--precision", "fp16", "-o", file, "--force").exit_code == 0
    assert file.stat().st_size < len(packed)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--target", "jetpack5"), "did you mean jetpack"),
        (("--precision", "int8"), "no graphs in 'int8'; it has: fp32"),
    ],
)
def test_refusals(for_jetson: Path, arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    result = run("kit", for_jetson, *arguments, "-o", tmp_path / "kit.tar.gz")
    assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_graphs_that_are_too_new(opset24: None, exported: Path, tmp_path: Path) -> None:
    result = run("kit", exported, "--target", "jetpack6", "-o", tmp_path / "kit.tar.gz")
    assert result.exit_code == 2 and "--target jetpack6" in result.stderr


def test_a_full_disk(for_jetson: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = run("kit", for_jetson, "-o", tmp_path / "kit.tar.gz")
    assert result.exit_code == 2 and "No space left" in result.stderr
    assert not list(tmp_path.iterdir())


def cases(rows: int, steps: int) -> tuple[Case, ...]:
    return stream_cases(rows, steps, CUMULATIVE, CUMULATIVE.sums(8), LIMITS["fp32"])


class TestCases:
    @pytest.mark.parametrize("rows", [1, 2, 3])
    @pytest.mark.parametrize("steps", [1, 2, 3, 5, 100])
    def test_streams_stay_inside_what_was_recorded(self, rows: int, steps: int) -> None:
        for case in cases(rows, steps):
            assert case.steps <= steps
            for parts in case.streams:
                starts = [start for start, _ in parts]
                assert starts[0] == 0 and starts == sorted(set(starts)) and starts[-1] < case.steps
                assert all(0 <= row < rows for _, row in parts)

    def test_rows_end_at_positions_of_their_own(self, for_jetson: Path) -> None:
        bundle = open_bundle(for_jetson)
        golden = open_bundle(for_jetson).golden()
        case = cases(len(golden.inputs), 60)[-1]
        assert reference_states(bundle, golden, "fp32", case)["position"].tolist() == [60, 40, 20]

    def test_a_window_shorter_than_the_sequence_has_no_full_graph(self) -> None:
        golden = Golden(np.zeros((1, 2, 60)), np.zeros((1, 3, 60)), np.zeros((1, 3)))
        found = sequence_cases(golden, 50, Window(40), per_step=False)
        assert found == (SequenceCase(37, "stepwise"),)
        assert sequence_cases(golden, 60, Window(40), per_step=False)[-1] == SequenceCase(60, "full")

    def test_a_bundle_that_is_wrong_gets_no_kit(self, for_jetson: Path) -> None:
        golden = open_bundle(for_jetson).golden()
        wrong = Golden(golden.inputs, golden.stepwise + 0.1, golden.full)
        with pytest.raises(BundleError, match="fails its own reference"):
            reference_states(open_bundle(for_jetson), wrong, "fp32", cases(2, 60)[1])
