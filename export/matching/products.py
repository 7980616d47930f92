"""Products of two values: functions of one value, gates, and norms that are written out."""

from __future__ import annotations

from functools import partial

import numpy as np

from multires_edge.export.matching.forms import (
    Array,
    Form,
    Function,
    Mean,
    Node,
    Norm,
    Product,
    form_of,
    ratio,
)
from multires_edge.export.matching.functions import Value, as_function, is_function, multiple


def product(a: Form, b: Form, at: str) -> Form:
    """The product of two forms, as the simplest node that it is."""
    for left, right in ((a, b), (b, a)):
        argument, value = as_function(right)
        other, factor = as_function(left)
        if other.key == argument.key:
            return Form.of(_both(argument, factor, value, at))
        times = multiple(left, argument)
        if times is not None:
            return Form.of(_both(argument, partial(np.multiply, times), value, at))
        normal = _norm(left, argument, value, at)
        if normal is not None:
            return normal
    return Form.of(Product(a.width, at, a, b))


def _both(argument: Node, one: Value, other: Value, at: str) -> Function:
    return Function(argument.width, at, argument, lambda x: one(x) * other(x))


def _norm(left: Form, argument: Node, value: Value, at: str) -> Form | None:
    """left * value(argument) where it is x / sqrt(mean(x^2) + epsilon) times factors of the channels."""
    inside = form_of(argument)
    if len(inside.terms) != 1 or not isinstance(mean := inside.terms[0].node, Mean):
        return None
    (term,) = inside.terms
    if not term.is_plain or not is_function(value, lambda x: 1 / np.sqrt(x), positive=True):
        return None
    squared, square = as_function(mean.source)
    size = mean.source.width // mean.width
    groups = np.arange(left.width) // size
    if left.width != mean.source.width or not np.array_equal(term.channels, groups):
        return None
    if not is_function(square, lambda x: x * x):
        return None
    factors = ratio(left, form_of(squared))
    if factors is None or not _one(term.factors) or not _one(inside.bias):
        return None
    scale, epsilon = float(term.factors[0]), float(inside.bias[0])
    source, centred = _centred(form_of(squared), mean.width)
    y = Form.of(Norm(left.width, at, source, mean.width, epsilon / scale, centred))
    return y.scaled(factors if scale == 1 else factors / np.sqrt(scale))


def _centred(form: Form, groups: int) -> tuple[Form, bool]:
    """x and True for x minus its mean; else the form itself and False."""
    for term in form.terms:
        if isinstance(term.node, Mean) and term.is_plain and term.node.width == groups:
            rest = form.without(term)
            size = form.width // groups
            whole = np.array_equal(term.channels, np.arange(form.width) // size)
            if whole and np.all(term.factors == -1) and term.node.source.key == rest.key:
                return rest, True
    return form, False


def _one(values: Array) -> bool:
    return bool(np.all(values == values[:1]))
