"""The files of a bundle: each is read once, and the bytes that are used are those whose digest fits."""

from __future__ import annotations

import hashlib
from pathlib import Path

from multires_edge.base.errors import BundleError
from multires_edge.base.files import read_regular, sha256_of
from multires_edge.format.specs import GraphSpec
from multires_edge.runtime.onnx_content import OnnxContentError, check_onnx


def check_file(folder: Path, name: str, sha256: str) -> None:
    """Raise BundleError unless a file of a bundle has its digest. For the opening of a bundle."""
    path = folder / name
    try:
        _check_inside(folder, path)
        found = sha256_of(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    if found != sha256:
        raise BundleError(
            f"{path}: changed since the bundle was written (its SHA-256 differs); export it again"
        )


def read_file(folder: Path, name: str, sha256: str) -> bytes:
    """The content of a file of an open bundle. Raises BundleError if it is not that of the digest."""
    path = folder / name
    try:
        _check_inside(folder, path)
        content = read_regular(path)
    except (OSError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not enough memory"
        raise BundleError(f"{path}: cannot be read ({reason})") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BundleError(
            f"{path}: changed since the bundle was opened (its SHA-256 differs); open the bundle again"
        )
    return content


def read_graph(folder: Path, spec: GraphSpec) -> bytes:
    """The content of a graph, which reads no other file. Raises BundleError."""
    content = read_file(folder, spec.file, spec.sha256)
    try:
        check_onnx(content)
    except OnnxContentError as error:
        raise BundleError(f"{folder / spec.file}: {error}; export the checkpoint again") from error
    return content


def tensors_sha256(weights: bytes) -> str:
    """SHA-256 of the values in a weights file, without its header, which has the card and the pooling too."""
    return hashlib.sha256(memoryview(weights)[8 + int.from_bytes(weights[:8], "little") :]).hexdigest()


def _check_inside(folder: Path, path: Path) -> None:
    """Raise BundleError if a link leads out of the folder. The folder itself may be a link."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{path}: is a link out of the bundle, expected a file; copy the file itself")
