"""Write the folder of a model in a model repository of Triton."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from multires_edge.base.errors import BundleError, ConfigError
from multires_edge.export.bundle_folder import Kind, atomic_folder
from multires_edge.export.triton.config import python_config, step_config
from multires_edge.format.manifest import FILE_NAME
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.kit.wheel import read_members

MODEL = Kind("a model of Triton", "config.pbtxt")
_PROGRAM = Path(__file__).with_name("model.py")


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How a network is served: in a precision, to at most ``streams`` sequences at a time.

    A sequence ends after ``idle`` seconds without a request. ``wheel`` is this package's for the server,
    whose Python need not have it then.
    """

    backend: str = "native"
    precision: str = "fp32"
    streams: int = 256
    idle: float = 60.0
    wheel: Path | None = None


def check_model_name(name: str) -> None:
    """Raise ConfigError for a name that is no folder of a repository."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", name):
        raise ConfigError(f"{name!r} is no name of a model: expected letters, digits, '_', '-' and '.'")


def write_model(bundle: Bundle, repository: Path, name: str, serving: Serving, *, force: bool) -> Path:
    """Write ``repository/name``, whole or not at all; returns it.

    Raises ConfigError, BundleError if the bundle lacks what is to be served, and OutputError.
    """
    check_model_name(name)
    if serving.backend != "native" and serving.wheel is not None:
        raise ConfigError(f"a wheel is for the backend native; {serving.backend} needs no Python")
    with atomic_folder(repository / name, force=force, kind=MODEL) as folder:
        version = folder / "1"
        version.mkdir()
        if serving.backend == "native":
            config = _write_program(bundle, version, name, serving)
        else:
            config = _write_step_graph(bundle, version, name, serving)
        (folder / MODEL.mark).write_text(config, encoding="utf-8")
    return repository / name


def _write_program(bundle: Bundle, folder: Path, name: str, serving: Serving) -> str:
    manifest = bundle.manifest
    if serving.precision not in manifest.native:
        has = ", ".join(manifest.native) or "none"
        raise BundleError(f"the bundle has no native weights in {serving.precision!r}; it has: {has}")
    shutil.copyfile(_PROGRAM, folder / _PROGRAM.name)
    copy = folder / "bundle"
    copy.mkdir()
    for file in (FILE_NAME, *manifest.digests()):
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path / file, copy / file)
    if serving.wheel is not None:
        _unpack(serving.wheel, folder)
    graph = manifest.graph("step", "fp32")
    return python_config(
        name, graph.inputs[0], graph.outputs[0], streams=serving.streams, idle=serving.idle,
        backend="native", precision=serving.precision,
    )  # fmt: skip


def _write_step_graph(bundle: Bundle, folder: Path, name: str, serving: Serving) -> str:
    import onnx

    from multires_edge.export.triton.step_model import with_an_axis
    from multires_edge.runtime.bundle_files import read_graph

    graph = bundle.manifest.graph("step", serving.precision)
    model = with_an_axis(onnx.load_from_string(read_graph(bundle.path, graph)))
    onnx.save(model, folder / "model.onnx")
    return step_config(
        name, graph.inputs, graph.outputs, graph.states,
        streams=serving.streams, idle=serving.idle, backend=serving.backend,
    )  # fmt: skip


def _unpack(wheel: Path, folder: Path) -> None:
    """The package of a wheel. Raises ConfigError if it is another one."""
    for name, content in read_members(wheel, r"multires_edge/.*[^/]").items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
