"""``calibration.json``: the range of each logical tensor, and what it was measured on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError
from multires_edge.base.files import write_file
from multires_edge.calibration.ranges import LEVELS
from multires_edge.calibration.tensors import LogicalTensor, logical_tensors
from multires_edge.format.config import ModelConfig
from multires_edge.format.fields import FieldError, plain, read_fields

if TYPE_CHECKING:
    from multires_edge.models.network import MultiresNet

FORMAT = "multires-calibration"
VERSION = 1
HISTOGRAM_BINS = 64


@dataclass(frozen=True)
class TensorRange:
    """The range of one tensor.

    ``thresholds`` float32 (channels,); ``largest`` the largest magnitude seen, of ``count``
    values; ``sqnr_db`` the signal-to-quantisation-noise ratio that the histogram predicts;
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

    def to_json(self) -> dict[str, Any]:
        return {
            # The shortest decimals that give the same float32 back.
            "thresholds": [_decimal(value) for value in self.thresholds],
            "largest": _decimal(self.largest),
            "count": self.count,
            "sqnr_db": self.sqnr_db,
            "histogram": {"range": self.histogram_range, "counts": self.histogram.tolist()},
        }

    @classmethod
    def from_json(cls, entry: Any, tensor: LogicalTensor) -> TensorRange:
        """Read :meth:`to_json` back, checked. Raises DataError."""
        thresholds = _numbers(entry, "thresholds", tensor.channels)
        # A scale below the normal float32 numbers would have no finite reciprocal.
        if min(thresholds) / LEVELS < float(np.finfo(np.float32).tiny) or max(thresholds) > _LARGEST:
            raise DataError("thresholds must be positive float32 numbers")
        largest = _numbers(entry, "largest")[0]
        if largest <= 0:
            raise DataError(f"largest is {largest}, expected a positive number")
        plot = entry.get("histogram")
        counts = _integers(_get(plot, "counts"), HISTOGRAM_BINS)
        count = _integers([_get(entry, "count")], 1)[0]
        if sum(counts) != count or not count:
            raise DataError(f"the histogram holds {sum(counts)} values, count says {count}")
        histogram_range = _numbers(plot, "range")[0]
        if histogram_range <= 0:
            raise DataError(f"the histogram's range is {histogram_range}, expected a positive number")
        return cls(
            thresholds=np.array(thresholds, np.float32),
            largest=largest,
            count=count,
            sqnr_db=_numbers(entry, "sqnr_db")[0],
            histogram_range=histogram_range,
            histogram=np.array(counts, np.int64),
        )


@dataclass(frozen=True)
class CalibrationTable:
    """Ranges by the names of :mod:`multires_edge.calibration.tensors`.

    ``method`` has its name and parameters; ``data`` file, sha256, records and steps; ``network_sha256``
    is :func:`network_digest`.
    """

    method: dict[str, Any]
    data: dict[str, Any]
    network_sha256: str
    config: ModelConfig
    tensors: dict[str, TensorRange]

    @property
    def record_steps(self) -> int | None:
        """Steps of a record, on the average, rounded up; None where the file does not say."""
        records, steps = self.data.get("records"), self.data.get("steps")
        if not isinstance(records, int) or not isinstance(steps, int) or records < 1 or steps < 1:
            return None
        return -(-steps // records)

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
        for field in expected:
            if given[field] != expected[field]:
                raise DataError(
                    f"the calibration table was made with {field} {given[field]}, the network is read with "
                    f"{expected[field]}; calibrate again with the same options"
                )

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "method": self.method,
            "data": self.data,
            "network": {"sha256": self.network_sha256, "config": plain(self.config)},
            "tensors": {name: tensor.to_json() for name, tensor in self.tensors.items()},
        }

    @classmethod
    def from_json(cls, entry: Any) -> CalibrationTable:
        """Read :meth:`to_json` back. Raises DataError for another format or version, missing or
        unknown tensors, and numbers that cannot be ranges."""  # fmt: skip
        if not isinstance(entry, dict) or entry.get("format") != FORMAT:
            raise DataError(f"not a calibration table: its format is not {FORMAT!r}")
        if entry.get("version") != VERSION or isinstance(entry["version"], bool):
            raise DataError(
                f"the table has version {entry.get('version')!r}, this release reads {VERSION}: "
                "calibrate again, or install the release that wrote it"
            )
        network, tensors = _object(entry, "network"), _object(entry, "tensors")
        digest = network.get("sha256")
        if not isinstance(digest, str) or len(digest) != 64:
            raise DataError(f"network: sha256 is {digest!r}, expected 64 hexadecimal digits")
        try:
            config = read_fields(ModelConfig, _object(network, "config"))
        except FieldError as error:
            raise DataError(f"network: {error}") from error
        expected = {tensor.name: tensor for tensor in logical_tensors(config)}
        for names, what in (
            ([name for name in expected if name not in tensors], "missing"),
            ([name for name in tensors if name not in expected], "unknown"),
        ):
            if names:
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                raise DataError(f"{what} tensors: {', '.join(names[:3])}{more}")
        ranges = {}
        for name, tensor in expected.items():
            try:
                ranges[name] = TensorRange.from_json(tensors[name], tensor)
            except DataError as error:
                raise DataError(f"{name}: {error}") from error
        return cls(_object(entry, "method"), _object(entry, "data"), digest, config, ranges)

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
            entry = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; expected a calibration table in JSON") from None
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: cannot be read as JSON ({error})") from error
        try:
            return cls.from_json(entry)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error


def network_digest(net: MultiresNet) -> str:
    """SHA-256 of a network's weights as float32, with their names and shapes, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        if tensor.is_floating_point():  # not BatchNorm's counter, which evaluation does not read
            array = tensor.detach().cpu().numpy().astype("<f4")
            digest.update(f"{name} {array.shape}\n".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


_LARGEST = float(np.finfo(np.float32).max)


def _decimal(value: Any) -> float:
    return float(str(np.float32(value)))


def _text(entry: Any) -> str:
    return json.dumps(entry, ensure_ascii=False, allow_nan=False)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _get(entry: Any, key: str) -> Any:
    if not isinstance(entry, Mapping) or key not in entry:
        raise DataError(f"has no {key}")
    return entry[key]


def _object(entry: dict[str, Any], key: str) -> dict[str, Any]:
    value = _get(entry, key)
    if not isinstance(value, dict):
        raise DataError(f"{key} is a {type(value).__name__}, expected an object")
    return value


def _numbers(entry: Any, key: str, channels: int | None = None) -> list[float]:
    """One number, or one for each channel: all finite."""
    value = _get(entry, key)
    if channels is not None and (not isinstance(value, list) or len(value) != channels):
        given = f"{len(value)} numbers" if isinstance(value, list) else repr(value)
        raise DataError(f"{key} is {given}, expected a list of {channels}")
    numbers = value if channels is not None else [value]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= _LARGEST:
            raise DataError(f"{key} holds {number!r}, expected a finite number")
    return [float(number) for number in numbers]


def _integers(value: Any, count: int) -> list[int]:
    if not isinstance(value, list) or len(value) != count:
        raise DataError(f"the histogram must be a list of {count} counts")
    for number in value:
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 62:
            raise DataError(f"holds {number!r}, expected a count")
    return list(value)
