"""``calibration.json``: the range of each logical tensor, and what it was measured on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError
from multires_edge.base.files import write_file
from multires_edge.base.names import listed
from multires_edge.calibration.ranges import LEVELS, Method
from multires_edge.calibration.tensors import logical_tensors
from multires_edge.format.config import ModelConfig
from multires_edge.format.fields import Above, Between, Document, Name, Natural, Sha256, plain
from multires_edge.format.module import ModuleConfig
from multires_edge.format.specs import DataUsed

if TYPE_CHECKING:
    from torch import nn

    from multires_edge.models.network import MultiresNet

HISTOGRAM_BINS = 64

_FLOAT32 = np.finfo(np.float32)
_Number = Annotated[float, Between(-float(_FLOAT32.max), float(_FLOAT32.max))]
_Positive = Annotated[float, Above(0), Between(0, float(_FLOAT32.max))]
# A scale below the normal float32 numbers would have no finite reciprocal.
_Threshold = Annotated[float, Between(LEVELS * float(_FLOAT32.tiny), float(_FLOAT32.max))]


@dataclass(frozen=True)
class Histogram:
    """Counts of magnitudes in 64 equal bins from 0 to ``range``."""

    range: _Positive
    counts: tuple[Natural, ...]


@dataclass(frozen=True)
class TensorRange:
    """The range of one tensor.

    ``decimals`` are the thresholds of the channels, the shortest decimals of float32 numbers; ``largest`` is
    the largest magnitude seen, of ``count`` values; ``sqnr_db`` is the ratio of signal to quantization noise
    that the histogram predicts.
    """

    decimals: tuple[_Threshold, ...] = field(metadata={"key": "thresholds"})
    largest: _Positive
    count: Natural
    sqnr_db: _Number
    histogram: Histogram

    def __post_init__(self) -> None:
        counts = self.histogram.counts
        if len(counts) != HISTOGRAM_BINS or sum(counts) != self.count or not self.count:
            raise DataError(
                f"histogram has {sum(counts)} values in {len(counts)} bins, expected {self.count} in "
                f"{HISTOGRAM_BINS}, and more than 0"
            )

    @property
    def thresholds(self) -> NDArray[np.float32]:
        """float32 (channels,)."""
        return np.array(self.decimals, np.float32)

    @property
    def scales(self) -> NDArray[np.float32]:
        """thresholds / 127, float32 (channels,): q = clip(round(x / scale), -127, 127)."""
        return np.asarray(self.thresholds / np.float32(LEVELS))

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest threshold."""
        return float(self.thresholds.min()), float(self.thresholds.max())


@dataclass(frozen=True)
class CalibratedNetwork:
    """The network; ``sha256`` is :func:`network_digest`."""

    sha256: Sha256
    config: ModelConfig | ModuleConfig


@dataclass(frozen=True)
class CalibrationTable:
    """Ranges by the names of :mod:`multires_edge.calibration.tensors`, and what they were measured on.

    For a module of the user's own they are the inputs of its products, by names of its trace.
    """

    method: Method
    data: DataUsed
    network: CalibratedNetwork
    tensors: dict[Name, TensorRange]

    def __post_init__(self) -> None:
        if isinstance(self.config, ModelConfig):
            self.check_tensors(logical_tensors(self.config))

    def check_tensors(self, expected: Mapping[str, int]) -> None:
        """Raise DataError unless the table is of these tensors, which have so many channels each."""
        if missing := sorted(set(expected) - set(self.tensors)):
            raise DataError(f"missing tensors: {listed(missing)}")
        if unknown := sorted(set(self.tensors) - set(expected)):
            raise DataError(f"unknown tensors: {listed(unknown)}")
        for name, channels in expected.items():
            given = len(self.tensors[name].decimals)
            if given != channels:
                raise DataError(f"{name}: {given} thresholds, expected {channels}")

    @property
    def config(self) -> ModelConfig | ModuleConfig:
        """The configuration of the network."""
        return self.network.config

    @property
    def record_steps(self) -> int:
        """The mean number of steps per record, rounded up."""
        return -(-self.data.steps // self.data.records)

    def check_network(self, net: MultiresNet) -> None:
        """Raise DataError unless the table was made from this network's weights."""
        self.check_weights(net)
        # The same weights can be read as trees of several depths, which have other tensors.
        given, expected = plain(self.config), plain(net.config)
        for name in expected:
            if given.get(name) != expected[name]:
                raise DataError(
                    f"the calibration table was made with {name} {given.get(name)}, the network is read with "
                    f"{expected[name]}; calibrate again with the same options"
                )

    def check_weights(self, net: nn.Module) -> None:
        """Raise DataError unless the table was made from the weights of this module."""
        digest, own = network_digest(net), self.network.sha256
        if digest != own:
            raise DataError(
                f"the calibration table is another network's: it was made from weights with SHA-256 "
                f"{own[:16]}…, these have {digest[:16]}…; calibrate again"
            )

    def to_json(self) -> dict[str, Any]:
        return _DOCUMENT.to_json(self)

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
        try:
            return _DOCUMENT.read(Path(path))
        except FileNotFoundError:
            raise DataError(f"{path}: no such file, expected a calibration table in JSON") from None


_DOCUMENT = Document(
    "calibration table",
    "multires-calibration",
    1,
    CalibrationTable,
    DataError,
    "calibrate again",
    digest=False,
)


def network_digest(net: nn.Module) -> str:
    """SHA-256 of a network's weights as float32, with their names and shapes, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        if tensor.is_floating_point():  # not BatchNorm's counter, which evaluation does not read
            array = tensor.detach().cpu().numpy().astype("<f4")
            digest.update(f"{name} {array.shape}\n".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _text(entry: Any) -> str:
    return json.dumps(entry, ensure_ascii=False, allow_nan=False)
