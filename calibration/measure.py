"""Measure a calibration table on a network and data, one record at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, InputError, OverflowedError
from multires_edge.calibration.histogram import MagnitudeHistogram
from multires_edge.calibration.ranges import Method, clipping_thresholds, signal_to_quantization_noise
from multires_edge.calibration.table import (
    HISTOGRAM_BINS,
    CalibratedNetwork,
    CalibrationTable,
    Histogram,
    TensorRange,
    network_digest,
)
from multires_edge.calibration.tensors import Collect, logical_tensors, observe
from multires_edge.format.arrays import check_inputs, check_lengths
from multires_edge.models.threads import one_thread
from multires_edge.runtime.evaluation.dataset import Dataset, data_used
from multires_edge.runtime.evaluation.pieces import RecordPieces

if TYPE_CHECKING:
    from multires_edge.format.config import ModelConfig
    from multires_edge.models.network import MultiresNet

# A table from fewer records or values says little about other data: a warning.
FEW_RECORDS = 8
FEW_VALUES = 1000


@one_thread()
def calibrate(
    net: MultiresNet,
    dataset: Dataset,
    method: str | Method = "percentile",
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> CalibrationTable:
    """Measure the range of every logical tensor on data.

    The same records give the same table, to the last bit, in any order and with any padding, on one
    machine. Memory beside the data does not grow with their number.
    Raises DataError for data that do not fit the network or are all zeros, and OverflowedError if a
    tensor overflows float32. Warns of fewer than 8 records or 1000 values of a tensor.
    """
    _check(dataset, net.config)

    def observed(row: int, collect: Collect) -> None:
        lengths = None if dataset.lengths is None else dataset.lengths[row : row + 1]
        observe(net, dataset.inputs[row : row + 1], lengths, collect)

    network = CalibratedNetwork(network_digest(net), net.config)
    return measured(network, logical_tensors(net.config), dataset, observed, method, progress=progress)


def measured(
    network: CalibratedNetwork,
    tensors: Mapping[str, int],
    dataset: Dataset,
    observe: Callable[[int, Collect], None],
    method: str | Method = "percentile",
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> CalibrationTable:
    """The table of tensors that have so many channels each.

    ``observe(row, collect)`` runs the network on a record, and passes the values of its tensors to
    ``collect(name, values)``, float32 (channels, n). Raises and warns as :func:`calibrate` does.
    """
    if isinstance(method, str):
        method = Method.of(method)
    histograms = {name: MagnitudeHistogram(channels) for name, channels in tensors.items()}
    row = 0

    def collect(name: str, values: NDArray[np.float32]) -> None:
        try:
            histograms[name].add(values)
        except OverflowedError:
            raise OverflowedError(
                f"{dataset.path}: {name} overflows float32 in {dataset.record(row)}; are the data normalized?"
            ) from None

    for row in range(len(dataset)):
        progress(f"record {row + 1} of {len(dataset)}")
        observe(row, collect)
    progress("choosing ranges")
    ranges = {}
    for name in tensors:
        try:
            ranges[name] = _range(method, histograms.pop(name))
        except DataError as error:
            raise DataError(f"{dataset.path}: {name} is {error}") from error
    _warn_of_little(dataset, ranges)
    return CalibrationTable(method, data_used(dataset), network, ranges)


def _range(method: Method, histogram: MagnitudeHistogram) -> TensorRange:
    thresholds = clipping_thresholds(method, histogram)
    largest, counts = histogram.coarse(HISTOGRAM_BINS)
    return TensorRange(
        tuple(map(_decimal, thresholds)),
        largest=_decimal(histogram.largest.max()),
        count=histogram.total,
        sqnr_db=round(signal_to_quantization_noise(histogram, thresholds), 2),
        histogram=Histogram(largest, tuple(counts.tolist())),
    )


def _decimal(value: np.float32) -> float:
    """The number with the shortest decimals that give the same float32 value again."""
    return float(str(value))


def _check(dataset: Dataset, config: ModelConfig) -> None:
    """Check the data again: a dataset may also be made in memory. Recordings are checked as they are read."""
    try:
        if isinstance(dataset.inputs, RecordPieces):
            return
        check_inputs(dataset.inputs, config)
        if dataset.lengths is not None:
            check_lengths(dataset.lengths, len(dataset), dataset.inputs.shape[-1])
    except InputError as error:
        raise DataError(f"{dataset.path}: {error}") from error


def _warn_of_little(dataset: Dataset, ranges: dict[str, TensorRange]) -> None:
    name, least = min(ranges.items(), key=lambda item: item[1].count)
    for who, given, advised, what in (
        ("", len(dataset), FEW_RECORDS, "records"),
        (f"{name} ", least.count, FEW_VALUES, "values"),
    ):
        if given < advised:
            message = f"{dataset.path}: {who}has only {given} {what}, at least {advised} are advised"
            warnings.warn(message, stacklevel=5)
