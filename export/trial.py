"""Find the network by trial: the options that give the outputs of the user's own network.

Shapes and outputs say much: the width of the head how many poolings it reads, the axes of the outputs whether
the network pools at all, and their values which function may come last. The rest is tried in float64:

- The features of a record are computed once for each tree, block and shift. All poolings and last functions
  that fit are tried on them, which costs little.
- Networks are tried in rounds, by how much they differ from the usual one: in no part, in one, and so on.
  :data:`MOST_RUNS` bounds their number.
- The epsilon of a norm, and functions that nearly equal another, change outputs little. They are tried on the
  nearest network of each round, and in the end on the nearest of all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from multires_edge.base.errors import ConfigError, MultiresError
from multires_edge.export.trial_choices import (
    Options,
    choices_of,
    close_bodies,
    described_options,
    quiet_config,
    with_options,
)
from multires_edge.format.comparison import LIMITS
from multires_edge.format.config import ModelConfig
from multires_edge.models.checkpoint import Checkpoint
from multires_edge.models.inference import Inferred, Overrides, infer_config
from multires_edge.models.loading import build_network
from multires_edge.models.network import MultiresNet
from multires_edge.runtime.evaluation.dataset import Dataset

MOST_RUNS = 400
_NEAREST = 3
_RECORDS = 2
_LIMIT = LIMITS["fp32"].value
_ROUNDING = 1e-6  # of the outputs in float32
_FIRST, _OTHERS = slice(1), slice(1, None)  # records


@dataclass(frozen=True)
class _Tried:
    body: Options
    head: Options
    error: float


def first_guess(checkpoint: Checkpoint, overrides: Overrides, *, per_step: bool) -> ModelConfig:
    """A configuration with the inputs and outputs of the network, by which data can be read.

    ``per_step`` says whether the network has an output at every step. Raises MultiresError.
    """
    plain = quiet_config(checkpoint, overrides)
    if plain is not None and plain.config.per_step == per_step:
        return plain.config
    choices = choices_of(checkpoint, overrides, per_step=per_step)
    networks = ({**body, **head} for body in choices.bodies() for head in choices.heads)
    for options in islice(networks, MOST_RUNS):
        guess = quiet_config(checkpoint, with_options(overrides, options))
        if guess is not None:
            return guess.config
    return infer_config(checkpoint, overrides).config


def find_network(
    checkpoint: Checkpoint,
    overrides: Overrides,
    dataset: Dataset,
    progress: Callable[[str], None] = lambda _: None,
) -> Inferred:
    """The configuration that gives ``dataset.outputs``. What ``overrides`` and the tensors say is kept.

    If none does, the result is what is inferred without outputs, and a warning names the nearest with its
    error. Raises ConfigError if nothing is inferred without outputs.
    """
    trial = _Trial(checkpoint, overrides, dataset, progress)
    best = trial.run()
    options = {**best.body, **best.head}
    if best.error <= _LIMIT:
        inferred = infer_config(checkpoint, with_options(overrides, options))
        plain = quiet_config(checkpoint, overrides)
        if plain is not None and plain.config == inferred.config and not plain.assumed:
            return plain
        found = f"{described_options(options)}: the outputs in {dataset.path.name} are those"
        return Inferred(inferred.config, (*inferred.assumed, found))
    nearest = (
        f"no supported network gives the outputs in {dataset.path.name}; of {trial.runs} that were tried, "
        f"the nearest has {described_options(options)}, with an error of {best.error:.2g}"
    )
    try:
        inferred = infer_config(checkpoint, overrides)
    except ConfigError as error:
        raise ConfigError(f"{error}; {nearest}") from None
    warnings.warn(f"{checkpoint.path}: {nearest}", stacklevel=3)
    return inferred


class _Trial:
    """Compares networks of one checkpoint with the outputs for the first records."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        overrides: Overrides,
        dataset: Dataset,
        progress: Callable[[str], None],
    ) -> None:
        assert dataset.outputs is not None
        self.checkpoint, self.overrides, self.progress = checkpoint, overrides, progress
        per_step = dataset.outputs.ndim == 3
        rows = np.arange(len(dataset))
        if dataset.lengths is not None:
            rows = np.argsort(-dataset.lengths, kind="stable")  # long records tell more networks apart
        rows = rows[:_RECORDS]
        self.inputs = torch.from_numpy(np.ascontiguousarray(dataset.inputs[rows]))
        if self.inputs.is_floating_point():
            self.inputs = self.inputs.double()
        self.lengths = None
        if dataset.lengths is not None and not per_step:
            self.lengths = torch.from_numpy(dataset.lengths[rows])
        self.outputs = dataset.outputs[rows]
        self.choices = choices_of(
            checkpoint,
            overrides,
            per_step=per_step,
            steps=self.inputs.shape[-1],
            outputs=self.outputs,
        )
        self.heads = list(self._heads())
        self.runs = 0

    def run(self) -> _Tried:
        """The first network within the limit, or else the nearest."""
        tried: list[_Tried] = []
        refined: dict[int, _Tried] = {}
        for bodies in self.choices.rounds():
            for body in bodies[: MOST_RUNS - len(tried)]:
                tried.append(self._try(body))
                if tried[-1].error <= _LIMIT:
                    return self._refined(tried[-1])
            self._refine(tried, refined, 1)
            if refined and min(refined.values(), key=_error_of).error <= _LIMIT:
                break
        else:
            self._refine(tried, refined, _NEAREST)
        return min(refined.values(), key=_error_of)

    def _refine(self, tried: list[_Tried], refined: dict[int, _Tried], count: int) -> None:
        """Refine the nearest networks that are not refined yet; the keys are places in ``tried``."""
        for i in sorted(range(len(tried)), key=lambda i: tried[i].error)[:count]:
            if i not in refined:
                refined[i] = self._refined(tried[i])

    def _refined(self, near: _Tried) -> _Tried:
        """With the epsilon and the function that come nearest. What nearly equals it is not better."""
        if near.error <= _ROUNDING:
            return near
        close = min((self._try(body) for body in close_bodies(near.body)), key=_error_of, default=near)
        return close if close.error < near.error / 2 else near

    def _heads(self) -> Iterator[tuple[Options, MultiresNet]]:
        """Networks that differ in what follows the features. Their bodies are not used."""
        for head in self.choices.heads:
            for body in self.choices.bodies()[:MOST_RUNS]:
                if (net := self._network({**body, **head})) is not None:
                    yield head, net
                    break

    def _network(self, options: Options) -> MultiresNet | None:
        """None if the tensors are not those of such a network."""
        inferred = quiet_config(self.checkpoint, with_options(self.overrides, options))
        try:
            return None if inferred is None else build_network(self.checkpoint, inferred.config).double()
        except MultiresError:
            return None

    def _try(self, body: Options) -> _Tried:
        net = self._network({**body, **self.heads[0][0]}) if self.heads else None
        if net is None:
            return _Tried(body, {}, float("inf"))
        self.runs += 1
        self.progress("finding the network by your outputs")
        features = self._features(net, _FIRST)
        errors = [self._error(head, features, _FIRST) for _, head in self.heads]
        nearest = int(np.argmin(errors))
        options, head = self.heads[nearest]
        error = errors[nearest]
        if error <= _LIMIT and len(self.outputs) > 1:
            error = max(error, self._error(head, self._features(net, _OTHERS), _OTHERS))
        return _Tried(body, options, error)

    def _features(self, net: MultiresNet, rows: slice) -> Tensor:
        with torch.no_grad():
            return net.features(net.shifted(self.inputs[rows]))

    def _error(self, head: MultiresNet, features: Tensor, rows: slice) -> float:
        """The largest error over max(1, |output|); infinite where the network gives no number."""
        with torch.no_grad():
            y = head.outputs(features, None if self.lengths is None else self.lengths[rows]).numpy()
        outputs = self.outputs[rows]
        error = np.abs(y - outputs) / np.maximum(1, np.abs(outputs))
        return float(np.nan_to_num(error, nan=np.inf).max())


def _error_of(tried: _Tried) -> float:
    return tried.error
