"""An engine that was built from other sources than the Python files is refused in words."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from multires_edge.base.errors import BackendError
from multires_edge.runtime import backends, open_bundle
from multires_edge.runtime.backends import _native_interface, _native_library
from multires_edge.runtime.backends.native import NativeBackend
from multires_edge.runtime.backends.registry import backend_named

REFUSED = r"^the native engine \S+ was built from other sources .+ the package again: pip install [^\n]+$"


@pytest.mark.parametrize("part", [_native_interface.INTERFACE, "native_interface"])
def test_of_another_interface_or_without_one(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _native_library.library_path()
    assert found is not None
    content = found.read_bytes()
    assert part.encode() in content
    other = tmp_path / found.name
    other.write_bytes(content.replace(part.encode(), b"0" * len(part)))
    monkeypatch.setattr(_native_library, "library_path", lambda: other)
    with pytest.raises(BackendError, match=REFUSED):
        _native_library._load()


def test_every_use_says_so(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(exported)
    for name in ("_native", "_native_library"):
        monkeypatch.delitem(sys.modules, f"{backends.__name__}.{name}")
        monkeypatch.delattr(backends, name)
    monkeypatch.setattr(_native_interface, "INTERFACE", "0" * 16)
    with pytest.raises(BackendError, match=REFUSED):
        bundle.stream()
    for backend in (NativeBackend(), backend_named("cuda")):
        monkeypatch.setattr("multires_edge.runtime.backends.cuda.backend.why_no_gpu", lambda: None)
        missing = backend.missing()
        assert missing is not None and "was built from other sources" in missing
