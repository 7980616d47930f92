"""The files of a page that decides on recordings in a browser."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from multires_edge.base import palette
from multires_edge.base.errors import DataError, InputError
from multires_edge.base.files import read_regular
from multires_edge.export.bundle_folder import Kind, atomic_folder
from multires_edge.export.web.card_source import card_source, check_streams
from multires_edge.export.web.compiler import GROUP, compile_module
from multires_edge.format.card import VOLTS, volts_per
from multires_edge.format.comparison import LIMITS
from multires_edge.format.golden import Golden
from multires_edge.runtime.backends.native import network_source
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.ecg.lead_names import name_rules
from multires_edge.runtime.ecg.leads import DERIVED
from multires_edge.runtime.ecg.quality import FLAGS
from multires_edge.runtime.ecg.settings import Pool, parse_duration
from multires_edge.runtime.ecg.sources.opening import open_source, read_through
from multires_edge.runtime.ecg.sources.protocol import Format, Samples
from multires_edge.runtime.ecg.sources.recordings.wfdb_header import NO_FILE, read_header
from multires_edge.runtime.ecg.stream import EcgStream

_PAGE = Path(__file__).with_name("page")
_MONITOR = Path(__file__).parents[2] / "runtime" / "monitor" / "page"
# Of the monitor: what draws a patient, and what it looks like.
_SHARED = (
    *(f"{name}.js" for name in ("chart", "dom", "patient", "signal", "sweep", "tip", "trend", "words")),
    *("monitor.css", "icon.svg", "uplot/uPlot.iife.min.js", "uplot/uPlot.min.css", "uplot/LICENSE"),
)
_SOURCES = ("ecg_exports.cpp", "ecg_stream.cpp", "quality.cpp", "trends.cpp")
PAGE = Kind("a page that multires-edge wrote", "network.wasm")
EVERY = "0.5s"
# Recordings that a page does not read, and how an EDF file begins; open.js has the same.
_OTHERS = (".bdf", ".rec", ".npz", ".dcm", ".xml", ".ecg", ".jsonl", ".ndjson", ".mat")
_EDF = b"0       "


@dataclass(frozen=True)
class Example:
    """A recording that a page offers; ``rate`` in Hz and ``unit`` of a table, which does not say them."""

    path: Path
    rate: float | None = None
    unit: str | None = None


def write_page(
    bundle: Bundle,
    output: Path,
    *,
    precision: str = "fp32",
    every: str = EVERY,
    example: Example | None = None,
    force: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> int:
    """Write the page of a bundle to a folder; returns the bytes of the WebAssembly module.

    It decides ``every`` seconds, pooled as a stream is by default. Raises BackendError, BundleError,
    DataError, InputError, MissingExtraError or OutputError.
    """
    check_streams(bundle)
    files = {} if example is None else _example_files(example, bundle)
    about = _about(bundle, precision, every)
    if example is not None:
        about["example"] = {"files": list(files), "rate": example.rate, "unit": example.unit}
    golden = _golden(bundle, precision)
    about["golden"] = _golden_facts(golden, precision)
    with atomic_folder(output, force=force, kind=PAGE) as folder:
        progress("compiling")
        wasm = compiled(bundle, precision, every)
        contents = _static() | {f"example/{name}": content for name, content in files.items()}
        contents["network.wasm"] = wasm
        contents["page.json"] = json.dumps(about, ensure_ascii=False, indent=1).encode()
        # As a stream takes and gives them: (rows, steps, ...), little-endian.
        contents["golden-x.bin"] = golden.inputs.swapaxes(1, 2).astype("<f4").tobytes()
        contents["golden-y.bin"] = golden.stepwise.swapaxes(1, 2).astype("<f8").tobytes()
        for name, content in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    return len(wasm)


def compiled(bundle: Bundle, precision: str, every: str = EVERY) -> bytes:
    """The WebAssembly module of a bundle. Raises BackendError, BundleError or MissingExtraError."""
    source, kinds, _, _ = network_source(bundle.path, bundle.manifest, precision, GROUP)
    own = {"network_kinds.h": kinds, "card.h": card_source(bundle, every)}
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / "network.wasm"
        compile_module(source, own, module, sources=_SOURCES)
        return module.read_bytes()


def _static() -> dict[str, bytes]:
    """The files that are the same for every bundle."""
    files = {path.name: path.read_bytes() for path in sorted(_PAGE.iterdir()) if path.is_file()}
    files |= {f"monitor/page/{name}": (_MONITOR / name).read_bytes() for name in _SHARED}
    files["palette.css"] = palette.css().encode()
    # The monitor's own elements for a patient.
    index = (_MONITOR / "index.html").read_text(encoding="utf-8")
    templates = "\n".join(re.findall(r"  <template .*?</template>", index, re.DOTALL))
    page = files["index.html"].decode()
    mark = "  <!-- templates of the monitor -->"
    assert mark in page and templates
    files["index.html"] = page.replace(mark, templates).encode()
    return files


def _about(bundle: Bundle, precision: str, every: str) -> dict[str, Any]:
    """What page.json says; page.d.ts has the types."""
    card, preprocessing, own = bundle.manifest.card, check_streams(bundle), bundle.manifest.pooling
    high_pass = preprocessing.high_pass
    pool = Pool.parse(None, preprocessing.sampling_rate, own).suits(own)
    return {
        "name": (card and card.name) or bundle.path.name,
        "description": card and card.description,
        "channels": preprocessing.channels,
        "unit": preprocessing.unit,
        "volts": volts_per(preprocessing.unit),
        "mean": np.broadcast_to(preprocessing.mean, len(preprocessing.channels)).tolist(),
        "rate": preprocessing.sampling_rate,
        "every": parse_duration(every, "every"),
        "delay": 0 if high_pass is None or high_pass.delay is None else high_pass.delay,
        "filter": None if high_pass is None else str(high_pass),
        "pool": pool.pool or bundle.manifest.pool,
        "labels": bundle.class_names,
        "descriptions": (card and card.label_descriptions) or {},
        "outputs": bundle.manifest.model.d_output,
        "precision": precision,
        "flags": FLAGS,
        "names": {
            **name_rules(),
            "derived": DERIVED,
            "volts": {unit.casefold(): volts for unit, volts in VOLTS.items()},
        },
        "example": None,
    }


def _golden(bundle: Bundle, precision: str) -> Golden:
    golden = bundle.golden()
    steps = golden.inputs.shape[-1]
    return golden.first(bundle.manifest.calibrated_steps(precision) or steps, bundle.manifest.pooling)


def _golden_facts(golden: Golden, precision: str) -> dict[str, Any]:
    limit, (rows, _, steps) = LIMITS[precision], golden.inputs.shape
    return {"rows": rows, "steps": steps, "limit": limit.value, "measure": limit.measure}


def _example_files(example: Example, bundle: Bundle) -> dict[str, bytes]:
    """The files of a recording, by name: that of a WFDB record is that of its header.

    Raises DataError or InputError for a recording that the page would refuse.
    """
    path = example.path
    header = Path(f"{path}.hea") if Path(f"{path}.hea").is_file() else path
    names = [header.name]
    try:
        _check_example(example, bundle)
        if header.suffix == ".hea":
            names += dict.fromkeys(signal.file for signal in read_header(header).signals)
        if NO_FILE in names or any(Path(name).name != name for name in names):
            raise InputError(f"{path}: a page takes a WFDB record whose signals are files beside the header")
        files = {name: read_regular(header.with_name(name)) for name in names}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    start = files[header.name][:256]
    is_other = header.suffix.casefold() in _OTHERS or min(start, default=0) < 9
    if is_other and not start.startswith(_EDF):
        raise InputError(f"{path}: a page reads WFDB records, EDF and CSV files; give one of these")
    return files


def _check_example(example: Example, bundle: Bundle) -> None:
    """Read a recording to its end, for a stream of the bundle. Raises DataError or InputError."""
    channels = check_streams(bundle).channels
    source = open_source(str(example.path.absolute()), Format(example.rate, example.unit, wanted=channels))
    try:
        signal = source.signal
        EcgStream(bundle, leads=signal.leads, rate=signal.rate, unit=signal.unit, name=signal.name)
        if not any(isinstance(piece, Samples) for piece in list(read_through(source))):
            raise DataError(f"{example.path}: has no samples")
    finally:
        source.close()
