"""The files of a program for a microcontroller, from a bundle."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from multires_edge.base.errors import BundleError
from multires_edge.export.mcu.cpus import Cpu
from multires_edge.export.mcu.golden_data import golden_data
from multires_edge.format.card import Card
from multires_edge.format.config import ModelConfig
from multires_edge.format.module import ModuleConfig
from multires_edge.runtime.backends.native import network_source
from multires_edge.runtime.bundle import Bundle

_CPP = Path(__file__).parents[2] / "runtime" / "cpp"
# The engine's sources that need no operating system. The headers that they include follow.
_SOURCES = ("c_api_streams.cpp", "pooling.cpp", "running.cpp", "scratch.cpp", "state.cpp", "storage.cpp")
_SMALLEST_FIRST = ("int8", "fp16", "fp32")
STACK = 2048  # bytes that link.ld reserves


@dataclass(frozen=True)
class Firmware:
    """The files of a program by path.

    ``weights`` and ``stream`` are the bytes of the network's constants and of the memory of its stream,
    ``flash`` and ``ram`` those of the device. ``queues`` is the type of the values in the queues.
    """

    files: dict[str, bytes]
    precision: str
    queues: str
    weights: int
    stream: int
    flash: int
    ram: int


def make_firmware(bundle: Bundle, cpu: Cpu, precision: str | None, flash: int, ram: int) -> Firmware:
    """Write the program of a bundle's network for a CPU with ``flash`` and ``ram`` bytes.

    ``precision`` None is the smallest of the bundle. Raises BackendError or BundleError.
    """
    precision = _precision(bundle, precision)
    source, kinds, weights, stream = network_source(bundle.path, bundle.manifest, precision, cpu.group)
    own = _CPP / "mcu"
    fields = {
        "CPU": cpu.name,
        "OPTIONS": cpu.options,
        "MACHINE": cpu.machine,
        "PRECISION": precision,
        "FLASH": str(flash),
        "RAM": str(ram),
        "STACK": str(STACK),
        "WEIGHTS": f"{weights:,}",
        "STREAM": f"{stream:,}",
        "NETWORK": _description(bundle),
    }
    files = {name: _filled(own / name, fields) for name in ("README.md", "link.ld")}
    files["Makefile"] = _filled(own / "program.mk", fields)
    files |= {name: (own / name).read_bytes() for name in ("board.c", "board.h", "main.c", "startup.c")}
    files["network.cpp"] = source.encode()
    files["network_kinds.h"] = kinds.encode()
    files["sizes.h"] = sizes_header(bundle.manifest.model).encode()
    files |= {f"engine/{path.name}": path.read_bytes() for path in _engine(cpu)}
    files["test/golden.c"] = (own / "golden.c").read_bytes()
    files["test/golden_data.h"] = golden_data(bundle, precision, cpu).encode()
    return Firmware(files, precision, _queues(bundle, precision), weights, stream, flash, ram)


def _precision(bundle: Bundle, wanted: str | None) -> str:
    native = bundle.manifest.native
    if isinstance(bundle.manifest.network, ModuleConfig) or not native:
        raise BundleError(
            f"{bundle.path}: has no weights for the native engine, which runs MultiresNets only"
        )
    return wanted or next(name for name in _SMALLEST_FIRST if name in native)


def _queues(bundle: Bundle, precision: str) -> str:
    states = bundle.manifest.graph("step", precision).states
    return next(state.dtype for state in states if state.scale is not None)


def _filled(path: Path, fields: dict[str, str]) -> bytes:
    return re.sub("@([A-Z]+)@", lambda field: fields[field[1]], path.read_text(encoding="utf-8")).encode()


def _engine(cpu: Cpu) -> list[Path]:
    """The sources of the engine, and all headers that they include."""
    places = [_CPP / folder for folder in ("src", "include", "mcu")]

    def find(name: str) -> Path | None:
        return next((place / name for place in places if (place / name).is_file()), None)

    found: dict[str, Path] = {}
    waiting = [cpu.kernels, "multires_start.cpp", *_SOURCES]
    while waiting:
        name = waiting.pop()
        path = find(name)
        if name in found or path is None:  # network_kinds.h is written
            continue
        found[name] = path
        waiting += re.findall(r'^ *#include "([\w.]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
    return [found[name] for name in sorted(found)]


def sizes_header(model: ModelConfig) -> str:
    """The sizes of a network's samples and outputs for C."""
    return (
        "/* Written by multires-edge. */\n#ifndef SIZES_H\n#define SIZES_H\n\n"
        f"#define MULTIRES_INPUTS {model.d_input or 1}  /* of a sample */\n"
        f"#define MULTIRES_OUTPUTS {model.d_output}\n"
        f"#define MULTIRES_TOKENS {model.n_tokens or 0} /* of a network of tokens */\n\n#endif\n"
    )


def _description(bundle: Bundle) -> str:
    """What inputs and outputs mean, as Markdown."""
    card: Card | None = bundle.manifest.card
    model, source = bundle.manifest.model, bundle.manifest.source
    lines = [
        f"- from {source.file}, SHA-256 {source.sha256}",
        f"- {model.n_layers} layers of {model.d_model} channels, depth {model.depth}",
    ]
    if card is not None and card.labels is not None:
        lines.append(f"- outputs: {', '.join(card.labels)}")
    if card is not None and card.preprocessing is not None:
        lines += [f"- {name}: {value}" for name, value in card.preprocessing.rows()]
        lines.append("- a sample is (value - mean) / std, after the filter if there is one")
    return "\n".join(lines)
