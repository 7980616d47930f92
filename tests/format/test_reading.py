"""Manifests with right digests that contradict themselves."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from multires_edge.base.errors import BundleError
from multires_edge.format.fields import digest_of
from multires_edge.format.reading import read_manifest
from multires_edge.runtime import open_bundle
from tests.hostile import put

STEP = "graphs.step.fp32"


@pytest.fixture(scope="module")
def entry(exported: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((exported / "manifest.json").read_text())
    return found


def write(folder: Path, entry: dict[str, Any]) -> Path:
    (folder / "manifest.json").write_text(json.dumps(entry | {"sha256": digest_of(entry)}))
    return folder


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.d_output", -1, "model.d_output is -1, expected 1 to 2,147,483,647"),
        ("model.d_output", True, "model.d_output is True, expected an integer"),
        ("model.d_output", 4, r"graphs.full.fp32.outputs\[0\] is .*, expected .*4"),
        ("model.n_tokens", 5, "expected one of them"),
        ("model.depth", 2, rf"{STEP}.states: has \d+ entries, expected \d+"),
        ("model.norm", "instance", "norm is 'instance', expected one of layer, batch"),
        ("model", None, "model is None, expected an object"),
        ("pool", 5, "pool is 5, expected a string or null"),
        ("pool", "sum", "pool is 'sum', expected cumulative for all steps or window:N"),
        ("pool", None, "pool is None, but the model's pooling is mean"),
        ("pool", "window:7", rf"{STEP}.states: has \d+ entries, expected \d+"),
        ("labels", [["a"], "b", "c"], r"labels\[0\] is \['a'\], expected a string"),
        ("labels", ["a", "b", "c"], "card is null, but preprocessing or labels are not"),
        ("source.sha256", "0" * 63 + "g", "expected 64 hexadecimal digits"),
        ("source.file", "a\nb", "source.file is .*, expected one line of text"),
        ("native", None, "native is None, expected an object"),
        ("native.fp64", {}, "a key of native is 'fp64', expected fp32 or fp16 or int8"),
        ("native.int8", {"file": "a", "sha256": "0" * 64}, "native and quantization need graphs"),
        ("files", {"../run/ckpt.pth": "0" * 64}, "expected a file in the bundle"),
        ("files", {"a\0b": "0" * 64}, "a key of files is 'a.x00b', expected a file in the bundle"),
        ("files", {"/etc/passwd": "0" * 64}, "expected a file in the bundle"),
        ("files", {}, "files: has no golden.npz, parity.json"),
        (f"{STEP}.file", "full.onnx", "full.onnx: named more than once"),
        (f"{STEP}.opset", 17, "step.onnx has opset 17, expected 24"),
        (f"{STEP}.states.4.shape.2", 1 << 40, "expected 1 to 2,147,483,647"),
        (f"{STEP}.states.4.shape.2", -1, r"shape\[2\] is -1"),
        (f"{STEP}.states.4.shape.2", 4, r"states\[4\] is .*, expected .*"),
        (f"{STEP}.states.4.dtype", "float16", r"states\[4\] is .*float16.*, expected .*float32"),
        (f"{STEP}.states.4.in_place", 1, "in_place is 1, expected true or false"),
        (f"{STEP}.states.4.more", 1, "unknown keys"),
        (f"{STEP}.inputs", [], "inputs: has 0 entries, expected 1"),
        ("graphs.step", {}, "full and step need the precisions fp32"),
        ("graphs", {}, "native and quantization need graphs"),
        ("graphs.whole", {}, "a key of graphs is 'whole', expected full or step or taps"),
        ("target", "toaster", "target is toaster, expected a target whose best form is opset24"),
        ("targets", {"toaster": ["opset24"]}, "toaster has the forms opset24"),
        ("targets.cpu", ["opset17"], "targets: cpu has the forms opset17, expected some of opset24"),
        ("form", "opset9", "form and forms are opset9"),
        ("forms.opset17", {}, "forms.opset17: full and step need the precisions fp32"),
        ("tools.torch", 3, "tools.torch is 3, expected a string"),
        ("more", 1, r"unknown keys \['more'\]"),
    ],
)
def test_refused(
    opset24: None, entry: dict[str, Any], path: str, value: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        read_manifest(write(tmp_path, put(copy.deepcopy(entry), path, value)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["form", "targets", "forms", "native", "quantization", "card", "pool"])
def test_every_key_is_needed(entry: dict[str, Any], key: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=f"has no {key}"):
        read_manifest(write(tmp_path, {k: v for k, v in entry.items() if k != key}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "cannot be read"),
        ('{"format": NaN}', "NaN is not JSON"),
        ('{"format": "a", "format": "b"}', "a key is given twice"),
        ('{"format": ' + "1" * 5000 + "}", "cannot be read"),
        ("[]", "not a manifest"),
        ('"\\ud800"', "not a manifest"),
    ],
)
def test_what_is_no_manifest(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=message):
        read_manifest(tmp_path)


def test_only_regular_files_are_read(entry: dict[str, Any], bundle: Path) -> None:
    for name in ("pipe", "zero"):
        os.mkfifo(bundle / name) if name == "pipe" else (bundle / name).symlink_to("/dev/zero")
        write(bundle, put(copy.deepcopy(entry), "files", entry["files"] | {name: "0" * 64}))
        with pytest.raises(BundleError, match=rf"{name}: .*(not a regular file|link out of the bundle)"):
            open_bundle(bundle)
    (bundle / "manifest.json").unlink()
    os.mkfifo(bundle / "manifest.json")
    with pytest.raises(BundleError, match="not a regular file"):
        open_bundle(bundle)
