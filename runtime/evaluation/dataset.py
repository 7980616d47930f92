"""Data files: ``.npz`` with normalized ``x`` or ``tokens``, and optionally ``lengths`` and ``labels``,
or the outputs ``y`` of the user's own network.

Recordings in microvolt (``x_uv``, int16) are normalized with the bundle's preprocessing. Images (``x_u8``,
uint8) are converted to sequences of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, InputError
from multires_edge.base.files import sha256_of, sha256_of_folder
from multires_edge.base.names import printable
from multires_edge.format.arrays import check_array, check_inputs, check_lengths, read_arrays
from multires_edge.format.card import VOLTS, Preprocessing
from multires_edge.format.config import ModelConfig
from multires_edge.format.module import ModuleConfig
from multires_edge.format.specs import DataUsed, Shape
from multires_edge.runtime.evaluation.named_records import NamedRecords, module_inputs
from multires_edge.runtime.evaluation.pieces import RecordPieces
from multires_edge.runtime.images.pixels import scale_levels, to_sequence


@dataclass(frozen=True)
class Dataset:
    """The records of a data file or of a folder of recordings.

    ``inputs`` is normalized float32 (n, d_input, time) or int64 (n, time), ``lengths`` int64 (n,). Recordings
    of a folder are read when their rows are indexed. Several inputs of a module are by name. ``labels`` are
    (n,) or (n, classes), and of every step (n, time) or (n, classes, time), negative where a step has no
    label; ``classes`` has the names of the classes if the data name them. ``outputs`` are what the user's own
    network gives for the inputs: float (n, d_output), or (n, d_output, time) of a network with an output at
    every step.
    """

    path: Path
    inputs: NDArray[Any] | RecordPieces | NamedRecords
    lengths: NDArray[np.int64] | None = None
    labels: NDArray[Any] | None = None
    classes: list[str] | None = None
    outputs: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def record(self, row: int) -> str:
        """What a message calls a record."""
        return f"record {self.inputs.name(row) if isinstance(self.inputs, RecordPieces) else row}"

    def first(self, count: int) -> Dataset:
        """The first ``count`` records."""
        return replace(
            self,
            inputs=self.inputs[:count] if isinstance(self.inputs, np.ndarray) else self.inputs.first(count),
            lengths=None if self.lengths is None else self.lengths[:count],
            labels=None if self.labels is None else self.labels[:count],
            outputs=None if self.outputs is None else self.outputs[:count],
        )


def load_file(path: Path, model: ModelConfig | ModuleConfig, preprocessing: Preprocessing | None) -> Dataset:
    """Read a data file and check it against the network. Raises DataError."""
    arrays = read_arrays(path)
    try:
        inputs: NDArray[Any] | NamedRecords
        if isinstance(model, ModuleConfig):
            inputs = module_inputs(arrays, model)
        else:
            inputs = _inputs(arrays, model, preprocessing)
        lengths = arrays.get("lengths")
        if lengths is not None:
            lengths = check_lengths(lengths, len(inputs), inputs.shape[-1])
        labels = arrays.get("labels")
        if labels is not None and (labels.ndim == 0 or len(labels) != len(inputs)):
            raise InputError(f"labels has shape {labels.shape}, expected {len(inputs)} records")
        outputs = _outputs(arrays, inputs, model)
    except InputError as error:
        raise DataError(f"{path}: {error}") from error
    classes = [str(name) for name in arrays["classes"].flat] if "classes" in arrays else None
    return Dataset(path, inputs, lengths, labels, classes, outputs)


def data_used(data: Dataset) -> DataUsed:
    """The name, digest and size of data. Raises OSError."""
    rows, steps = len(data), data.inputs.shape[-1]
    total = rows * steps if data.lengths is None else int(data.lengths.sum())
    path, digest = data.path, None
    if path.is_dir():
        digest = sha256_of_folder(path)
    elif path.is_file():
        digest = sha256_of(path)
    return DataUsed(printable(path.name), digest, rows, total)


def has_inputs(path: Path) -> bool:
    """Whether a data file that was loaded has ``x``, the network's inputs, and not records as measured."""
    with np.load(path, allow_pickle=False) as file:
        return "x" in file.files


@dataclass(frozen=True)
class DataHints:
    """What a data file says of its network: the encoder, and whether there is an output at every step."""

    encoder: Literal["linear", "token"] | None = None
    per_step: bool | None = None


def hints_of(path: str | Path) -> DataHints:
    """The hints of a data file; none of a folder, or of a file that cannot be read."""
    try:
        arrays = read_arrays(Path(path))
    except DataError:
        return DataHints()
    encoders: tuple[Literal["linear", "token"], ...] = ("token",) if "tokens" in arrays else ()
    encoders += ("linear",) if {"x", "x_uv", "x_u8"} & arrays.keys() else ()
    y = arrays.get("y")
    per_step = None if y is None else y.ndim == 3
    return DataHints(encoders[0] if len(encoders) == 1 else None, per_step)


def load_images(path: str | Path, channels: int) -> NDArray[np.uint8]:
    """The images ``x_u8`` (n, height, width, channels) of a data file. Raises DataError."""
    path = Path(path)
    try:
        return _images(read_arrays(path), channels)
    except InputError as error:
        raise DataError(f"{path}: {error}") from error


def _inputs(
    arrays: dict[str, NDArray[Any]], model: ModelConfig, preprocessing: Preprocessing | None
) -> NDArray[Any]:
    if model.encoder == "token":
        if "tokens" not in arrays:
            raise InputError(f"has {sorted(arrays)}, expected tokens (n, time) int64")
        return check_inputs(arrays["tokens"], model)
    shape = ("n", model.channels, "time")
    if "x" in arrays:
        return check_inputs(arrays["x"], model)
    if "x_uv" in arrays:
        return _normalized(arrays, shape, preprocessing)
    if "x_u8" in arrays:
        if not model.shifts:
            raise InputError("x_u8 needs an autoregressive network; give x, normalized as in training")
        return scale_levels(to_sequence(_images(arrays, model.channels)))
    raise InputError(f"has {sorted(arrays)}, expected x (n, {model.channels}, time) float32, x_uv or x_u8")


def _outputs(
    arrays: dict[str, NDArray[Any]], inputs: NDArray[Any] | NamedRecords, model: ModelConfig | ModuleConfig
) -> NDArray[Any] | None:
    y = arrays.get("y")
    if y is None or (isinstance(model, ModuleConfig) and "y" in (tensor.name for tensor in model.inputs)):
        return None
    time = (inputs.shape[-1],) if model.per_step else ()
    shape = (len(inputs), model.d_output, *time)
    if y.shape != shape or y.dtype.kind != "f":
        raise InputError(
            f"y has shape {y.shape} and dtype {y.dtype}, expected the outputs of your network, {shape} float"
        )
    if not np.isfinite(y).all():
        raise InputError("y has NaN or infinite values, expected the outputs of your network")
    return y


def _images(arrays: dict[str, NDArray[Any]], channels: int) -> NDArray[np.uint8]:
    wanted = ("n", "height", "width", channels)
    if "x_u8" not in arrays:
        raise InputError(f"has {sorted(arrays)}, expected x_u8 (n, height, width, {channels}) uint8")
    return check_array(arrays["x_u8"], "x_u8", np.dtype(np.uint8), wanted)


def _normalized(
    arrays: dict[str, NDArray[Any]], shape: Shape, preprocessing: Preprocessing | None
) -> NDArray[np.float32]:
    microvolt = check_array(arrays["x_uv"], "x_uv", np.dtype(np.int16), shape)
    if preprocessing is None:
        raise InputError(
            "x_uv is in microvolt, and normalizing it needs a card with preprocessing: give --card, or "
            "export the bundle with it"
        )
    unit = preprocessing.unit
    if unit not in VOLTS:
        raise InputError(f"x_uv is in microvolt, but the card's unit is {unit!r}; expected uV, mV or V")
    if "leads" in arrays and [str(lead) for lead in arrays["leads"]] != list(preprocessing.channels):
        raise InputError(
            f"leads are {', '.join(map(str, arrays['leads']))}, the card has "
            f"{', '.join(preprocessing.channels)}"
        )
    if "sampling_rate" in arrays:
        given, wanted = arrays["sampling_rate"], preprocessing.sampling_rate
        if any(rate != wanted for rate in given.flat):
            raise InputError(
                f"sampling_rate is {given} Hz, the card has {wanted}: resample the records first"
            )
    return preprocessing.inputs(microvolt * (1e-6 / VOLTS[unit]))
