"""``calibration.json``: the range of each logical tensor, and what it was measured on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError
from multires_edge.base.files import write_file
from multires_edge.calibration.ranges import LEVELS, METHODS
from multires_edge.calibration.tensors import LogicalTensor, logical_tensors
from multires_edge.format.config import ModelConfig
from multires_edge.format.fields import ABSENT, Above, Between, Document, Line, Name, Natural, Sha256, plain

if TYPE_CHECKING:
    from multires_edge.models.network import MultiresNet

HISTOGRAM_BINS = 64


_FLOAT32 = np.finfo(np.float32)
_Number = Annotated[float, Between(-float(_FLOAT32.max), float(_FLOAT32.max))]
_Positive = Annotated[float, Above(0), Between(0, float(_FLOAT32.max))]
# A scale below the normal float32 numbers would have no finite reciprocal.
_Threshold = Annotated[float, Between(LEVELS * float(_FLOAT32.tiny), float(_FLOAT32.max))]


@dataclass(frozen=True)
class MethodUsed:
    """The method that chose the thresholds, and its parameter."""

    name: Name
    percentile: Annotated[float, Above(0), Between(0, 100)] | None = field(default=None, metadata=ABSENT)

    def __post_init__(self) -> None:
        if self.name not in METHODS or (self.percentile is None) != (self.name != "percentile"):
            raise DataError(
                f"method {self.name} with percentile {self.percentile}, expected one of "
                f"{', '.join(METHODS)}, and a percentile for percentile alone"
            )

    def __str__(self) -> str:
        return " ".join(map(str, plain(self).values()))


@dataclass(frozen=True)
class DataUsed:
    """The data that the ranges were measured on; ``sha256`` is None for data that were made in memory."""

    file: Line
    sha256: Sha256 | None
    records: Natural
    steps: Natural

    def __post_init__(self) -> None:
        if not 1 <= self.records <= self.steps:
            raise DataError(f"{self.records} records of {self.steps} steps, expected at least one step each")


@dataclass(frozen=True)
class _Histogram:
    range: _Positive
    counts: tuple[Natural, ...]


@dataclass(frozen=True)
class _RangeEntry:
    thresholds: tuple[_Threshold, ...]
    largest: _Positive
    count: Natural
    sqnr_db: _Number
    histogram: _Histogram

    def __post_init__(self) -> None:
        counts = self.histogram.counts
        if len(counts) != HISTOGRAM_BINS or sum(counts) != self.count or not self.count:
            raise DataError(
                f"histogram has {sum(counts)} values in {len(counts)} bins, expected {self.count} in "
                f"{HISTOGRAM_BINS}, and more than 0"
            )


@dataclass(frozen=True)
class _Network:
    sha256: Sha256
    config: ModelConfig


@dataclass(frozen=True)
class _Table:
    """The content of the file."""

    method: MethodUsed
    data: DataUsed
    network: _Network
    tensors: dict[Name, _RangeEntry]

    def __post_init__(self) -> None:
        expected = {tensor.name for tensor in logical_tensors(self.network.config)}
        for names, what in (
            (sorted(expected - set(self.tensors)), "missing"),
            (sorted(set(self.tensors) - expected), "unknown"),
        ):
            if names:
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                raise DataError(f"{what} tensors: {', '.join(names[:3])}{more}")


_DOCUMENT = Document(
    "calibration table", "multires-calibration", 1, _Table, DataError, "calibrate again", digest=False
)


@dataclass(frozen=True)
class TensorRange:
    """The range of one tensor.

    ``thresholds`` float32 (channels,); ``largest`` the largest magnitude seen, of ``count``
    values; ``sqnr_db`` the ratio of signal to quantization noise that the histogram predicts;
    ``histogram`` int64 (64,), counts of magnitudes in equal bins from 0 to ``histogram_range``.
    """

    thresholds: NDArray[np.float32]
    largest: float
    count: int
    sqnr_db: float
    histogram_range: float
    histogram: NDArray[np.int64]

    @property
    def scales(self) -> NDArray[np.float32]:
        """thresholds / 127, float32 (channels,): q = clip(round(x / scale), -127, 127)."""
        return np.asarray(self.thresholds / np.float32(LEVELS))

    @classmethod
    def of(cls, entry: _RangeEntry, tensor: LogicalTensor) -> TensorRange:
        """From the file. Raises DataError unless it has the channels of ``tensor``."""
        if len(entry.thresholds) != tensor.channels:
            raise DataError(f"{len(entry.thresholds)} thresholds, expected {tensor.channels}")
        return cls(
            thresholds=np.array(entry.thresholds, np.float32),
            largest=float(entry.largest),
            count=entry.count,
            sqnr_db=float(entry.sqnr_db),
            histogram_range=float(entry.histogram.range),
            histogram=np.array(entry.histogram.counts, np.int64),
        )

    def entry(self) -> _RangeEntry:
        """For the file, with the shortest decimals that give the same float32 values again."""
        return _RangeEntry(
            thresholds=tuple(_decimal(value) for value in self.thresholds),
            largest=_decimal(self.largest),
            count=self.count,
            sqnr_db=self.sqnr_db,
            histogram=_Histogram(self.histogram_range, tuple(self.histogram.tolist())),
        )


@dataclass(frozen=True)
class CalibrationTable:
    """Ranges by the names of :mod:`multires_edge.calibration.tensors`.

    ``method`` has its name and parameters; ``data`` file, sha256, records and steps; ``network_sha256``
    is :func:`network_digest`.
    """

    method: MethodUsed
    data: DataUsed
    network_sha256: str
    config: ModelConfig
    tensors: dict[str, TensorRange]

    @property
    def record_steps(self) -> int:
        """The mean number of steps per record, rounded up."""
        return -(-self.data.steps // self.data.records)

    def check_network(self, net: MultiresNet) -> None:
        """Raise DataError unless the table was made from this network's weights."""
        digest = network_digest(net)
        if digest != self.network_sha256:
            raise DataError(
                f"the calibration table is another network's: it was made from weights with SHA-256 "
                f"{self.network_sha256[:16]}…, these have {digest[:16]}…; calibrate again"
            )
        # The same weights can be read as trees of several depths, which have other tensors.
        given, expected = plain(self.config), plain(net.config)
        for name in expected:
            if given[name] != expected[name]:
                raise DataError(
                    f"the calibration table was made with {name} {given[name]}, the network is read with "
                    f"{expected[name]}; calibrate again with the same options"
                )

    def to_json(self) -> dict[str, Any]:
        return _DOCUMENT.to_json(
            _Table(
                self.method,
                self.data,
                _Network(self.network_sha256, self.config),
                {name: tensor.entry() for name, tensor in self.tensors.items()},
            )
        )

    def write(self, path: str | Path, *, force: bool = False) -> None:
        """Write the file whole or not at all; one line a tensor. Raises OutputError."""
        entry = self.to_json()
        lines = [f"    {_text(name)}: {_text(tensor)}" for name, tensor in entry.pop("tensors").items()]
        head = json.dumps(entry, indent=2, ensure_ascii=False, allow_nan=False)
        text = head.removesuffix("\n}") + ',\n  "tensors": {\n' + ",\n".join(lines) + "\n  }\n}\n"
        write_file(Path(path), text.encode(), force=force)

    @classmethod
    def read(cls, path: str | Path) -> CalibrationTable:
        """Read a file; needs no torch. Raises DataError."""
        path = Path(path)
        try:
            table = _DOCUMENT.read(path)
        except FileNotFoundError:
            raise DataError(f"{path}: no such file, expected a calibration table in JSON") from None
        config, ranges = table.network.config, {}
        for tensor in logical_tensors(config):
            try:
                ranges[tensor.name] = TensorRange.of(table.tensors[tensor.name], tensor)
            except DataError as error:
                raise DataError(f"{path}: {tensor.name}: {error}; {_DOCUMENT.remedy}") from error
        return cls(table.method, table.data, table.network.sha256, config, ranges)


def network_digest(net: MultiresNet) -> str:
    """SHA-256 of a network's weights as float32, with their names and shapes, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        if tensor.is_floating_point():  # not BatchNorm's counter, which evaluation does not read
            array = tensor.detach().cpu().numpy().astype("<f4")
            digest.update(f"{name} {array.shape}\n".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _decimal(value: Any) -> float:
    return float(str(np.float32(value)))


def _text(entry: Any) -> str:
    return json.dumps(entry, ensure_ascii=False, allow_nan=False)
