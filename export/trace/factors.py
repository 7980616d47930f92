"""The file of a sums graph: what the native engine makes of the rings of its banks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.files import sha256_of
from multires_edge.export.trace.program import FilterBank
from multires_edge.format.arrays import npz_bytes
from multires_edge.format.specs import FileSpec, RingBank

_SOURCE, _ROW, _TAP = range(3)  # BankTerm in runtime/cpp/src/banks.h


def write_factors(
    folder: Path, precision: str, banks: Sequence[FilterBank], specs: Sequence[RingBank]
) -> FileSpec:
    """Write the file for a precision. Each bank's arrays have the name of its sums before theirs."""
    name = f"native/banks.{precision}.npz"
    arrays: dict[str, NDArray[Any]] = {}
    for bank, spec in zip(banks, specs, strict=True):
        arrays |= {f"{spec.taps}/{key}": array for key, array in factors_of(bank).items()}
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(npz_bytes(**arrays))
    return FileSpec(name, sha256_of(folder / name))


def factors_of(bank: FilterBank) -> dict[str, NDArray[Any]]:
    """The arrays of a bank.

    ``weights`` (sums, taps, width) and ``bias`` (sums, width) make the sums; ``row_bias`` is (rings, width).
    ``terms`` int64 (n, 3) are the row, kind and number of each term of the rows, with ``factors`` (n, width).
    """
    terms, factors = [], []
    for number, row in enumerate(bank.rows):
        for kind, of_kind in ((_SOURCE, row.sources), (_ROW, row.rows), (_TAP, row.taps)):
            for index, each in of_kind.items():
                terms.append((number, kind, index))
                factors.append(each.numpy())
    floats = {
        "weights": bank.outputs.numpy(),
        "bias": bank.bias.numpy(),
        "factors": np.reshape(factors, (len(terms), bank.width)),
        "row_bias": np.stack([row.bias.numpy() for row in bank.rows]),
    }
    found: dict[str, NDArray[Any]] = {key: array.astype(np.float32) for key, array in floats.items()}
    return {**found, "terms": np.array(terms, np.int64).reshape(-1, 3)}
