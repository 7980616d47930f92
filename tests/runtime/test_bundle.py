"""Opening bundles: whole ones, and those that something happened to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.base.errors import BundleError, InputError, OverflowedError
from multires_edge.format.fields import digest_of
from multires_edge.runtime import open_bundle
from tests.conftest import SMALL, random_inputs


def edit_manifest(bundle: Path, **changes: Any) -> None:
    """Change a manifest and renew its digest: a forgery, not an accident."""
    path = bundle / "manifest.json"
    entry = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(entry | {"sha256": digest_of(entry)}))


class TestDamage:
    @pytest.mark.parametrize(
        "name",
        ["full.onnx", "step.onnx", "golden.npz", "parity.json", "report.html", "native/weights.safetensors"],
    )
    def test_one_byte_changed(self, bundle: Path, name: str) -> None:
        data = bytearray((bundle / name).read_bytes())
        data[len(data) // 2] ^= 1
        (bundle / name).write_bytes(data)
        with pytest.raises(BundleError, match=rf"{name}: changed since"):
            open_bundle(bundle)

    def test_a_file_gone(self, bundle: Path) -> None:
        (bundle / "step.onnx").unlink()
        with pytest.raises(BundleError, match=r"step\.onnx: cannot be read"):
            open_bundle(bundle)

    def test_any_cut_of_the_manifest(self, bundle: Path) -> None:
        data = (bundle / "manifest.json").read_bytes()
        for size in range(0, len(data) - 2, 97):
            (bundle / "manifest.json").write_bytes(data[:size])
            with pytest.raises(BundleError):
                open_bundle(bundle)

    @pytest.mark.parametrize("key", ["graphs", "model", "source", "tools", "files"])
    def test_a_manifest_without_a_part(self, bundle: Path, key: str) -> None:
        path = bundle / "manifest.json"
        entry = json.loads(path.read_text())
        del entry[key]
        path.write_text(json.dumps(entry | {"sha256": digest_of(entry)}))
        with pytest.raises(BundleError, match=f"has no {key}"):
            open_bundle(bundle)

    def test_any_byte_of_the_manifest_changed(self, bundle: Path) -> None:
        path = bundle / "manifest.json"
        data, entry = path.read_bytes(), json.loads(path.read_text())
        random = np.random.default_rng(0)
        for where in random.integers(0, len(data), 200):
            changed = bytearray(data)
            changed[where] ^= 1 << int(random.integers(0, 8))
            path.write_bytes(changed)
            try:
                open_bundle(bundle)
            except BundleError:
                continue
            assert json.loads(path.read_text()) == entry  # white space, or a letter's other escape

    @pytest.mark.parametrize("key", ["graphs", "model", "source", "files", "native"])
    @pytest.mark.parametrize("value", [None, [], 3, "x"])
    def test_a_forged_manifest_of_other_types(self, bundle: Path, key: str, value: Any) -> None:
        edit_manifest(bundle, **{key: value})
        with pytest.raises(BundleError):
            open_bundle(bundle).stream()

    def test_a_later_version(self, bundle: Path) -> None:
        edit_manifest(bundle, version=2)
        with pytest.raises(BundleError, match="has version 2, this release reads 1"):
            open_bundle(bundle)

    def test_something_else(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="no such folder"):
            open_bundle(tmp_path / "none")
        with pytest.raises(BundleError, match=r"no manifest\.json"):
            open_bundle(tmp_path)
        (tmp_path / "manifest.json").write_text("[]")
        with pytest.raises(BundleError, match="not a manifest"):
            open_bundle(tmp_path)

    def test_a_manifest_that_points_outside(self, bundle: Path) -> None:
        edit_manifest(bundle, files={"../run/ckpt.pth": "0" * 64})
        with pytest.raises(BundleError, match="expected a file in the bundle"):
            open_bundle(bundle)


def test_an_unproven_bundle_is_said_to_be_one(bundle: Path) -> None:
    from multires_edge.base.files import sha256_of

    path = bundle / "parity.json"
    entry = json.loads(path.read_text()) | {"passed": False}
    entry["checks"][0] |= {"passed": False, "error": None}
    path.write_text(json.dumps(entry))
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    edit_manifest(bundle, files=files | {"parity.json": sha256_of(path)})
    with pytest.warns(UserWarning, match="its parity proof failed"):
        open_bundle(bundle)


class TestFull:
    def test_bad_inputs(self, exported: Path) -> None:
        full = open_bundle(exported).full()
        x = random_inputs(SMALL, 2, 9)
        with pytest.raises(InputError, match=r"expected \(batch, 2, time\)"):
            full(x[:, :1])
        with pytest.raises(InputError, match="dtype float64"):
            full(x.astype(np.float64))
        with pytest.raises(InputError, match="expected"):
            full(x[..., :0])
        x[1, 0, 3] = np.nan
        with pytest.raises(InputError, match=r"1 NaN or infinite values, the first at \(1, 0, 3\)"):
            full(x)
        with pytest.raises(OverflowedError, match="check its scale"):
            full(np.full((1, 2, 9), 3e38, np.float32))
        with pytest.raises(InputError, match="takes no lengths"):
            full(random_inputs(SMALL, 2, 9), np.array([1, 2]))

    def test_a_view_is_as_good_as_an_array(self, exported: Path) -> None:
        full = open_bundle(exported).full()
        x = random_inputs(SMALL, 4, 40)
        assert np.array_equal(full(x[::2, :, 3:30]), full(x[::2, :, 3:30].copy()))


def test_the_runtime_never_imports_torch_or_the_exporter(exported: Path) -> None:
    code = (
        "import sys, numpy\n"
        "from multires_edge.runtime import evaluate, open_bundle, sample\n"
        f"bundle = open_bundle({str(exported)!r})\n"
        "bundle.stream().step(numpy.zeros((1, 2), numpy.float32))\n"
        "bundle.full()(numpy.zeros((1, 2, 5), numpy.float32))\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert not {'torch', 'onnx', 'jinja2', 'matplotlib', 'PIL'} & loaded\n"
        "parts = {name.split('.')[1] for name in sys.modules if name.startswith('multires_edge.')}\n"
        "assert parts == {'base', 'format', 'runtime'}, parts\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
