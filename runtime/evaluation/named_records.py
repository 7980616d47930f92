"""Records of a module of the user's own, from the arrays of a data file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import InputError
from multires_edge.format.arrays import check_array
from multires_edge.format.module import ModuleConfig

Arrays = dict[str, NDArray[Any]]


class NamedRecords:
    """Records of several inputs (n, ..., time) by name. Indexing rows gives their arrays by name."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        first = next(iter(arrays.values()))
        self.shape = (len(first), first.shape[-1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Any:
        return {name: array[rows] for name, array in self.arrays.items()}

    def first(self, count: int) -> NamedRecords:
        """The first ``count`` records."""
        return NamedRecords(self[:count])


def module_inputs(arrays: Arrays, network: ModuleConfig) -> NDArray[Any] | NamedRecords:
    """The inputs in a data file, each under its own name; a single one may be ``x`` or ``tokens``.

    Raises InputError.
    """
    found: Arrays = {}
    for tensor in network.inputs:
        name = tensor.name
        if network.is_plain and name not in arrays:
            name = "tokens" if name in network.tokens else "x"
        if name not in arrays:
            wanted = ", ".join(map(str, network.inputs))
            raise InputError(f"has {', '.join(sorted(arrays))}, expected the inputs of the module: {wanted}")
        shape = tuple("n" if size == "batch" else size for size in tensor.shape)
        tokens = network.tokens.get(tensor.name)
        found[tensor.name] = check_array(arrays[name], name, np.dtype(tensor.dtype), shape, tokens)
    sizes = {(len(array), array.shape[-1]) for array in found.values()}
    if len(sizes) > 1:
        raise InputError(f"its inputs have different numbers of records or steps: {sorted(sizes)}")
    return next(iter(found.values())) if network.is_plain else NamedRecords(found)


def by_name(network: ModuleConfig, inputs: NDArray[Any] | Arrays) -> Arrays:
    """The inputs of some records by the names of the module's inputs."""
    return inputs if isinstance(inputs, dict) else {network.inputs[0].name: inputs}
