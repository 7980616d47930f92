"""``multires-edge sample`` as a user types it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from multires_edge.cli.main import main
from multires_edge.runtime import open_bundle
from multires_edge.runtime import sample as draw
from multires_edge.runtime.images.pixels import grid
from tests.cli.commands.test_export import assert_refused


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["sample", *(str(argument) for argument in arguments)])


def test_writes_what_the_library_draws(drawing: Path, tmp_path: Path) -> None:
    png, npz = tmp_path / "a.png", tmp_path / "a.npz"
    options = ("--count", 3, "--size", "4x6", "--seed", 5, "--temperature", 0.8)
    result = run(drawing, "-o", png, "--npz", npz, *options)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert "3 images of 4x6, seed 5" in result.stdout
    expected = draw(open_bundle(drawing), 3, (4, 6), seed=5, temperature=0.8)
    assert np.array_equal(np.load(npz)["x_u8"], expected)
    assert np.array_equal(np.asarray(Image.open(png)), grid(expected))


def test_json_names_the_files(drawing_grey: Path, tmp_path: Path) -> None:
    png = tmp_path / "a.png"
    result = run(drawing_grey, "-o", png, "--size", "3x4", "--seed", 7, "--json")
    assert json.loads(result.stdout) == {
        "bundle": str(drawing_grey), "files": [str(png)], "count": 1, "size": [3, 4], "seed": 7,
    }  # fmt: skip


def test_by_default_one_image_of_the_training_size(drawing_grey: Path, tmp_path: Path) -> None:
    assert run(drawing_grey, "-o", tmp_path / "a.png").exit_code == 0
    with Image.open(tmp_path / "a.png") as image:
        assert (image.size, image.mode) == ((32, 32), "L")


def test_its_arrays_can_be_evaluated(drawing: Path, tmp_path: Path) -> None:
    """A network finds its own images likelier than noise."""
    assert run(drawing, "--npz", tmp_path / "a.npz", "--count", 2, "--size", "9x9").exit_code == 0
    noise = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3)).astype(np.uint8)
    np.savez(tmp_path / "noise.npz", x_u8=noise)
    bits = []
    for name in ("a.npz", "noise.npz"):
        result = CliRunner().invoke(main, ["evaluate", str(drawing), "--data", str(tmp_path / name)])
        assert result.stdout.startswith("bits per dimension "), result.output
        bits.append(float(result.stdout.split()[3]))
    assert bits[0] < bits[1]


def test_completes_images(drawing: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3)).astype(np.uint8)
    np.savez(tmp_path / "given.npz", x_u8=images)
    for rows, options in ((2, ()), (4, ("--prime-rows", 4))):
        out = tmp_path / f"{rows}.npz"
        result = run(drawing, "--npz", out, "--prime", tmp_path / "given.npz", "--count", 2, *options)
        assert result.exit_code == 0, result.output
        drawn = np.load(out)["x_u8"]
        assert drawn.shape == (2, 5, 4, 3)
        assert np.array_equal(drawn[:, :rows], images[:2, :rows])
        assert not np.array_equal(drawn[:, rows:], images[:2, rows:])


class TestRefusals:
    def test_an_existing_file(self, drawing: Path, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(b"mine")
        assert_refused(run(drawing, "-o", path), "exists already", "--force")
        assert path.read_bytes() == b"mine"
        assert run(drawing, "-o", path, "--size", "2x2", "--force").exit_code == 0

    def test_nowhere_to_write(self, drawing: Path, tmp_path: Path) -> None:
        assert_refused(run(drawing), "give -o FILE")
        assert_refused(run(drawing, "-o", tmp_path / "none" / "a.png"), "no such folder")

    @pytest.mark.parametrize("size", ["32", "0x4", "4x-1", "4x4x4", "axb", "1e9x2", "٣x٣"])
    def test_a_size_that_is_none(self, drawing: Path, tmp_path: Path, size: str) -> None:
        assert_refused(run(drawing, "-o", tmp_path / "a.png", "--size", size), "such as 32x32")

    def test_other_bundles(self, exported: Path, token_predictor: Path, tmp_path: Path) -> None:
        assert_refused(run(exported, "-o", tmp_path / "a.png"), "needs an autoregressive bundle")
        assert_refused(run(token_predictor, "-o", tmp_path / "a.png"), "takes tokens")
        assert_refused(run(tmp_path / "none", "-o", tmp_path / "a.png"), "no such folder")
        assert list(tmp_path.iterdir()) == []

    def test_a_temperature_or_backend_that_is_none(self, drawing: Path, tmp_path: Path) -> None:
        assert_refused(run(drawing, "-o", tmp_path / "a.png", "--temperature", 0), "above 0")
        assert_refused(run(drawing, "-o", tmp_path / "a.png", "--temperature", "nan"), "above 0")
        assert_refused(run(drawing, "-o", tmp_path / "a.png", "--backend", "abacus"), "native")

    def test_images_that_cannot_be_completed(self, drawing: Path, tmp_path: Path) -> None:
        given = tmp_path / "given.npz"
        np.savez(given, x_u8=np.zeros((2, 5, 4, 3), np.uint8))
        to = ("-o", tmp_path / "a.png")
        assert_refused(run(drawing, *to, "--prime", given, "--count", 3), "--count is 3", "holds 2")
        assert_refused(run(drawing, *to, "--prime", given, "--prime-rows", 6), "have 5 rows")
        assert_refused(run(drawing, *to, "--prime", given, "--size", "4x5"), "are 5x4")
        assert_refused(run(drawing, *to, "--prime-rows", 6), "belongs to --prime")
        assert_refused(run(drawing, *to, "--prime", tmp_path / "none.npz"), "no such file")
        np.savez(given, x_u8=np.zeros((2, 5, 4, 1), np.uint8))
        assert_refused(run(drawing, *to, "--prime", given), "expected (n, height, width, 3)")

    def test_no_pillow(self, drawing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *a: None if name == "PIL" else found(name, *a)
        )
        assert_refused(
            run(drawing, "-o", tmp_path / "a.png"), "needs pillow, which is not installed", "[images]'"
        )
        assert run(drawing, "--npz", tmp_path / "a.npz", "--size", "2x2").exit_code == 0
