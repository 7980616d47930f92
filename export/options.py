"""The options of an export. All are checked before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from multires_edge.base.errors import ConfigError, DataError
from multires_edge.base.names import check_name
from multires_edge.export.bundle_folder import check_output
from multires_edge.export.target_selection import targets_named
from multires_edge.format.card import read_card
from multires_edge.format.figures import read_figures
from multires_edge.format.pooling import pooling_named
from multires_edge.format.targets import PRECISIONS
from multires_edge.models.containers import check_file
from multires_edge.models.inference import Overrides

PARTS = ("encoder", "filters", "mixing", "output", "head", "queues")
DEFAULT_PARTS = ("mixing", "output")
DEFAULT_METHOD = "percentile"


@dataclass(frozen=True)
class Int8Options:
    """The options of int8.

    The ranges come from ``table``, a calibration table, or are measured on ``data`` by ``method``. ``parts``
    of the network are quantized. With ``max_drop``, weights stay float32 until the metric on ``budget_data``
    (None: on ``data``) drops by at most this much.
    """

    table: str | Path | None = None
    data: str | Path | None = None
    method: str = DEFAULT_METHOD
    parts: Sequence[str] = DEFAULT_PARTS
    max_drop: float | None = None
    budget_data: str | Path | None = None

    def check(self, *, wanted: bool) -> None:
        """Raise ConfigError for options that contradict each other, or that int8 needs."""
        if self.table is not None and self.data is not None:
            raise ConfigError("a calibration table and calibration data are given; give one of them")
        given = self.table is not None or self.data is not None
        if wanted and not given:
            raise ConfigError(
                "int8 needs real data for its ranges: give --calibration-data, or --calibration"
            )
        if not wanted and given:
            raise ConfigError("calibration is for int8: add int8 to the precisions")
        if not wanted and (self.max_drop is not None or tuple(self.parts) != DEFAULT_PARTS):
            raise ConfigError("--quantize and --max-drop are for int8: add int8 to the precisions")
        if self.data is None and self.method != DEFAULT_METHOD:
            raise ConfigError(
                f"calibration method {self.method!r} needs calibration data; a calibration table already has "
                "its method: leave --calibration-method out"
            )
        if self.budget_data is not None and self.max_drop is None:
            raise ConfigError("budget data are given without a budget: give --max-drop too")
        if self.max_drop is not None:
            check_max_drop(self.max_drop)
            if self.budget_data is None and self.data is None:
                raise ConfigError("a budget is measured on data: give --budget-data")
        for part in self.parts:
            check_name("part to quantize", part, PARTS)
        if self.data is not None:
            from multires_edge.calibration.ranges import Method

            Method.of(self.method)


@dataclass(frozen=True)
class ExportOptions:
    """The options of an export.

    ``precisions`` are written in addition to "fp32"; "int8" needs ranges, given in ``int8``. ``pool`` is
    "cumulative", "window:N", "max", "last", several such as "cumulative+max", or "none" for an output at
    every step; None is the network's own pooling, over all steps. ``target`` names one target or more,
    separated by commas; the first target's graphs are full.onnx and step.onnx, further graphs are written
    where they differ. None is the newest target that the installed ONNX Runtime runs. ``lengths``: whether
    the full graph takes the length of each row; None means for token models that pool. ``card`` is a file.
    ``evaluation`` is a file of `multires-edge evaluate --json`, for the model card. The graphs are also
    compared on ``verify_data``. ``overrides`` are facts about the network that the checkpoint does not
    contain.
    """

    precisions: Sequence[str] = ("fp32",)
    pool: str | None = None
    target: str | Sequence[str] | None = None
    lengths: bool | None = None
    card: str | Path | None = None
    evaluation: str | Path | None = None
    verify_data: str | Path | None = None
    int8: Int8Options = Int8Options()
    overrides: Overrides | None = None

    def check(self, checkpoint: Path | None, output: Path, *, force: bool) -> None:
        """Raise MultiresError for all errors that are known without reading the network."""
        if checkpoint is not None:
            check_file(checkpoint)
        check_output(output, force=force)
        self.written_precisions()
        if self.pool is not None:
            pooling_named(self.pool)
        self.int8.check(wanted="int8" in self.precisions)
        if self.card is not None:
            read_card(self.card)
        if self.evaluation is not None:
            read_figures(self.evaluation)
        if self.int8.table is not None:
            from multires_edge.calibration.table import CalibrationTable

            CalibrationTable.read(self.int8.table)
        for path in (self.verify_data, self.int8.data, self.int8.budget_data):
            if path is not None and not Path(path).exists():
                raise DataError(f"{path}: no such file")
        targets_named(self.target)

    def written_precisions(self) -> list[str]:
        """The precisions in the order in which they are written. Raises ConfigError for an unknown one."""
        for name in self.precisions:
            check_name("precision", name, PRECISIONS)
        return [name for name in PRECISIONS if name == "fp32" or name in self.precisions]


def output_folder(checkpoint: Path, output: str | Path | None) -> Path:
    """The bundle's folder, absolute; by default the checkpoint's path with the suffix ``.bundle``."""
    # abspath removes '..' and follows no links.
    if output is None:
        output = Path(os.path.abspath(checkpoint)).with_suffix(".bundle")  # noqa: PTH100
    return Path(os.path.abspath(output))  # noqa: PTH100


def check_max_drop(max_drop: float) -> None:
    """Raise ConfigError unless ``max_drop`` is a finite number from 0 on."""
    if not 0 <= max_drop < float("inf"):
        raise ConfigError(f"max drop is {max_drop}, expected a number from 0 on, such as 0.005")
