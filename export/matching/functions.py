"""Functions of one value, in any formula: they are recognized by their values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from multires_edge.export.matching.forms import Array, Form, Function, Node, form_of, frozen, ratio
from multires_edge.models.activations import ACTIVATION_FUNCTIONS

Value = Callable[[Array], Array]

_GRID = np.concatenate([np.linspace(-40, 40, 1601), np.logspace(-6, 1, 200), -np.logspace(-6, 1, 200)])
_POSITIVE = np.logspace(-9, 6, 400)
_FAR = 32.0
_TOLERANCE = 1e-13


def _by_torch(function: Callable[[torch.Tensor], torch.Tensor]) -> Value:
    return lambda x: function(torch.from_numpy(x)).numpy()


NAMED: dict[str, Value] = {name: _by_torch(function) for name, function in ACTIVATION_FUNCTIONS.items()}
SIGMOID: Value = _by_torch(torch.sigmoid)


def as_function(form: Form) -> tuple[Node, Value]:
    """A form as a function of one node, the same in each channel; of itself, if it is no other."""
    inner = [term for term in form.terms if isinstance(term.node, Function) and term.is_plain]
    whole = frozen(form, inner[0].node.at if inner else "")
    itself: tuple[Node, Value] = (whole, lambda x: x)
    if not inner or not _uniform(form.bias):
        return itself
    arguments = {
        term.node.argument.key: term.node.argument for term in inner if isinstance(term.node, Function)
    }
    if len(arguments) != 1 or not all(_uniform(term.factors) and term.is_whole for term in inner):
        return itself
    (argument,) = arguments.values()
    rest = Form(tuple(term for term in form.terms if term not in inner), np.zeros(form.width))
    linear = 0.0
    if rest.terms:
        vector = form_of(argument)
        # The bias of the argument is part of the bias of the form.
        factors = ratio(rest, Form(vector.terms, np.zeros(form.width)))
        if factors is None or not _uniform(factors):
            return itself
        linear = float(factors[0])
        offset = form.bias - linear * vector.bias
        if not _uniform(offset):
            return itself
    else:
        offset = form.bias
    parts = [(float(term.factors[0]), term.node.value) for term in inner if isinstance(term.node, Function)]
    constant = float(offset[0])
    return argument, lambda x: constant + linear * x + sum(factor * value(x) for factor, value in parts)


def multiple(form: Form, node: Node) -> float | None:
    """What a form is of the value of a node, if it is a multiple; None if not."""
    factors = ratio(form, form_of(node))
    return float(factors[0]) if factors is not None and _uniform(factors) else None


def activation_of(value: Value) -> tuple[str, float] | None:
    """The name of an activation and a scale, such that value(x) = activation(scale * x)."""
    with np.errstate(all="ignore"):
        scales = (1.0, float(value(np.array([_FAR]))[0]) / _FAR)
    for scale in scales:
        for name, known in NAMED.items():
            if scale and is_function(value, _scaled(known, scale)):
                return name, scale
    return None


def _scaled(value: Value, scale: float) -> Value:
    return lambda x: value(scale * x)


def is_function(value: Value, known: Value, *, positive: bool = False) -> bool:
    """Whether two functions are equal, on positive numbers or on all."""
    grid = _POSITIVE if positive else _GRID
    with np.errstate(all="ignore"):
        mine, theirs = value(grid), known(grid)
    return bool(np.all(np.abs(mine - theirs) <= _TOLERANCE * np.maximum(1, np.abs(theirs))))


def _uniform(values: Array) -> bool:
    return bool(np.allclose(values, values[:1], rtol=1e-13, atol=0))
