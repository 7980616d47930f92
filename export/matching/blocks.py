"""Find encoder, residual blocks and head of a MultiresNet in forms, from the output to the input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from multires_edge.export.matching.forms import (
    ABSENT,
    Array,
    Embedded,
    Form,
    Frozen,
    Function,
    Input,
    Mixed,
    Node,
    Norm,
    Pooled,
    Product,
    Softmax,
    Term,
    UnmatchedError,
    form_of,
    frozen,
    ratio,
)
from multires_edge.export.matching.functions import SIGMOID, activation_of, as_function, is_function
from multires_edge.export.matching.trees import Tree, base_of, find_tree

Linear = tuple[Array, Array]  # weight (out, in) and bias (out,)


@dataclass(frozen=True)
class Head:
    """``pooling`` and the output ``activation`` are those of a configuration, ``features`` what is pooled."""

    weight: Array
    bias: Array
    activation: str | None
    pooling: str
    features: Form


@dataclass(frozen=True)
class BlockNorm:
    """The norm of a block: its kind and place are those of a configuration; scale and shift (d,)."""

    kind: str
    place: str
    epsilon: float
    groups: int | None
    scale: Array
    shift: Array


@dataclass(frozen=True)
class Block:
    """A residual block. ``first`` and ``second`` are the convolutions of its mixing, ``source`` its input."""

    tree: Tree
    activation: str
    mixing: str
    first: Linear
    second: Linear | None
    norm: BlockNorm
    source: Form

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a configuration, of which all blocks have the same values."""
        return {
            "norm": self.norm.kind,
            "norm_place": self.norm.place,
            "norm_eps": self.norm.epsilon,
            "norm_groups": self.norm.groups,
            "activation": self.activation,
            "mixing": self.mixing,
            "mixing_output": self.second is not None,
        }


@dataclass(frozen=True)
class _Mixing:
    kind: str
    first: Linear
    second: Linear | None
    activation: str
    filtered: Form


@dataclass(frozen=True)
class _Affine:
    """scale * norm + shift; a batch norm without ``norm``."""

    norm: Norm | None
    scale: Array
    shift: Array

    def at(self, place: str) -> BlockNorm:
        """The norm of a block before or after it."""
        norm = self.norm
        if norm is not None:
            kind = _kind(norm)
            groups = norm.groups if kind == "group" else None
            return BlockNorm(kind, place, norm.epsilon, groups, self.scale, self.shift)
        if np.all(self.scale == 1) and not self.shift.any():
            return BlockNorm("none", "after", 1e-5, None, self.scale, self.shift)
        return BlockNorm("batch", place, 0.0, None, self.scale, self.shift)


def _thawed(form: Form) -> Form:
    """A form without nodes that are nothing but forms."""
    while isinstance(node := form.bare, Frozen):
        form = node.source
    return form


def as_mixed(form: Form) -> tuple[Array, Array, Form] | None:
    """Weight (out, in, taps), bias (out,) and source of a form that is channels of a product with a matrix.

    Several products with one source are one product.
    """
    form = _thawed(form)
    nodes = [term.node for term in form.terms]
    if not nodes or not all(
        isinstance(node, Mixed) and t.is_plain for node, t in zip(nodes, form.terms, strict=True)
    ):
        return None
    mixed = [node for node in nodes if isinstance(node, Mixed)]
    source, shape = mixed[0].source, mixed[0].weight.shape[1:]
    if any(node.source.key != source.key or node.weight.shape[1:] != shape for node in mixed):
        return None
    weight, bias = np.zeros((form.width, *shape)), form.bias
    for node, term in zip(mixed, form.terms, strict=True):
        present = term.channels != ABSENT
        factors = np.where(present, term.factors, 0)
        weight = (
            weight + np.where(present[:, None, None], node.weight[term.channels], 0) * factors[:, None, None]
        )
        bias = bias + np.where(present, node.bias[term.channels], 0) * factors
    return weight, bias, source


def _pointwise(form: Form) -> tuple[Linear, Form] | None:
    mixed = as_mixed(form)
    if mixed is None or mixed[0].shape[2] != 1:
        return None
    return (mixed[0][..., 0], mixed[1]), mixed[2]


def find_head(form: Form, *, per_step: bool) -> Head:
    """The head of the output. Raises UnmatchedError."""
    activation, inner = _output_activation(form)
    found = _pointwise(inner)
    if found is None:
        raise UnmatchedError("gives the output; the head of a MultiresNet is a linear layer", _at(form))
    (weight, bias), source = found
    if per_step:
        return Head(weight, bias, activation, "none", source)
    width = next((term.node.width for term in source.terms if isinstance(term.node, Pooled)), 0)
    if not width or source.width % width:
        raise UnmatchedError("reads what is not pooled over time", _at(form))
    kinds, features = [], []
    for start in range(0, source.width, width):
        part = source.gathered(np.arange(start, start + width)).bare
        if not isinstance(part, Pooled):
            raise UnmatchedError("reads what is not pooled over time", _at(form))
        kinds.append(part.how)
        features.append(part.source)
    if any(each.key != features[0].key for each in features):
        raise UnmatchedError("reads poolings of different values", _at(form))
    return Head(weight, bias, activation, "+".join(kinds), features[0])


def _output_activation(form: Form) -> tuple[str | None, Form]:
    """The name of the function that gives a form, if it has one, and the argument."""
    form = _thawed(form)
    if isinstance(node := form.bare, Softmax):
        return "softmax", node.source
    argument, value = as_function(form)
    if isinstance(form.bare, Function) and is_function(value, SIGMOID):
        return "sigmoid", form_of(argument)
    return None, form


def encoder_of(form: Form) -> Mixed | Embedded | None:
    """The encoder that a form is; None for any other form."""
    form = _thawed(form)
    if isinstance(node := form.bare, Embedded):
        return node if _is_input(node.source) else None
    mixed = as_mixed(form)
    if mixed is None or not _is_input(mixed[2]):
        return None
    return Mixed(form.width, form.terms[0].node.at, *mixed)


def _is_input(form: Form) -> bool:
    """Whether a form is the input, perhaps of the previous step."""
    if len(form.terms) != 1 or form.bias.any():
        return False
    (term,) = form.terms
    whole = isinstance(term.node, Input) and term.is_whole and np.all(term.factors == 1)
    return bool(whole) and not term.filters and term.delay in (0, 1)


def find_block(form: Form) -> Block:
    """The last block of the features that a form is. Raises UnmatchedError."""
    form = _thawed(form)
    if len(form.terms) == 1 and isinstance(norm := form.terms[0].node, Norm):
        (term,) = form.terms
        if not (term.is_plain and term.is_whole):
            raise UnmatchedError("normalizes, and its output is filtered or moved", norm.at)
        return _residual(_thawed(norm.source), _Affine(norm, term.factors, form.bias))
    return _residual(form, None)


def _residual(form: Form, after: _Affine | None) -> Block:
    """A block whose output, before a norm ``after`` it, is a form."""
    reasons: list[UnmatchedError] = []
    for term in reversed(form.terms):
        if not isinstance(term.node, Mixed | Product) or not (term.is_plain and term.is_whole):
            continue
        try:
            mixing = _mixing(term.node)
            tree = find_tree(mixing.filtered)
        except UnmatchedError as error:
            reasons.append(error)
            continue
        block = _placed(form.without(term), term, after, mixing, tree)
        if block is not None:
            return block
        reasons.append(UnmatchedError("is not added to the input of its block", term.node.at))
    if reasons:
        raise reasons[0]
    raise UnmatchedError("is no residual block: norm(x + f(x)) or x + f(norm(x))", _at(form))


def _placed(rest: Form, term: Term, after: _Affine | None, mixing: _Mixing, tree: Tree) -> Block | None:
    """The block with its norm, where ``rest`` is the other part of the sum; None if it is another sum."""
    node = base_of(mixing.filtered)
    parts = (tree, mixing.activation, mixing.kind, mixing.first, mixing.second)
    direct = bool(np.all(term.factors == 1))
    inputs = [each for each in (Form.of(node), form_of(node)) if each.width == rest.width]
    if after is not None:
        if direct and any(source.key == rest.key for source in inputs):
            return Block(*parts, after.at("after"), Form.of(node))
        return None
    for source in inputs:
        affine = _batch(rest, source)
        if affine is not None and np.array_equal(affine.scale, term.factors):
            return Block(*parts, affine.at("after"), Form.of(node))
    if direct:
        affine = _normalized(form_of(node), rest) or _batch(form_of(node), rest)
        if affine is not None:
            return Block(*parts, affine.at("before"), rest)
    return None


def _batch(form: Form, source: Form) -> _Affine | None:
    """A form as scale * source + shift, per channel."""
    nothing = np.zeros(form.width)
    scale = ratio(replace(form, bias=nothing), replace(source, bias=nothing))
    if scale is None:
        return None
    return _Affine(None, scale, form.bias - scale * source.bias)


def _normalized(form: Form, source: Form) -> _Affine | None:
    """A form as a norm of another."""
    if len(form.terms) != 1 or not isinstance(norm := form.terms[0].node, Norm):
        return None
    (term,) = form.terms
    if not (term.is_plain and term.is_whole and _thawed(norm.source).key == _thawed(source).key):
        return None
    return _Affine(norm, term.factors, form.bias)


def _kind(norm: Norm) -> str:
    if norm.centred:
        return "layer" if norm.groups == 1 else "group"
    if norm.groups != 1:
        raise UnmatchedError("normalizes groups of channels without their mean", norm.at)
    return "rms"


def _mixing(node: Node) -> _Mixing:
    """The mixing that gives a node, from the filtered values on. Raises UnmatchedError."""
    second = None
    if isinstance(node, Mixed):
        linear, source = _required(Form.of(node), node)
        inner = _thawed(source)
        product = inner.bare
        if not isinstance(product, Product) and _pointwise(inner) is None:
            return _Mixing("plain", linear, None, *_activated(source, node))
        second = linear
        if not isinstance(product, Product):
            linear, source = _required(inner, node)
            return _Mixing("plain", linear, second, *_activated(source, node))
        node = product
    assert isinstance(node, Product)
    for values, gates in ((node.left, node.right), (node.right, node.left)):
        argument, value = as_function(gates)
        if not isinstance(gates.bare, Function) or not is_function(value, SIGMOID):
            continue
        first, gate = _pointwise(values), _pointwise(form_of(argument))
        if first is None or gate is None or first[1].key != gate[1].key:
            continue
        source = first[1]
        weight, bias = (np.concatenate(pair) for pair in zip(first[0], gate[0], strict=True))
        return _Mixing("glu", (weight, bias), second, *_activated(source, node))
    raise UnmatchedError("is no gated linear unit: a * sigmoid(b), with a and b of one linear layer", node.at)


def _required(form: Form, node: Node) -> tuple[Linear, Form]:
    found = _pointwise(form)
    if found is None:
        raise UnmatchedError("mixes channels of several steps", node.at)
    return found


def _activated(form: Form, node: Node) -> tuple[str, Form]:
    """The name of the activation, and its argument."""
    argument, value = as_function(_thawed(form))
    if not isinstance(form.bare, Function):
        value, argument = (lambda x: x), frozen(_thawed(form), node.at)
    found = activation_of(value)
    if found is None:
        raise UnmatchedError("is no activation of a block", _at(form))
    name, scale = found
    inside = form_of(argument)
    return name, inside if scale == 1 else inside.scaled(scale)


def _at(form: Form) -> str | None:
    """The instruction that a form comes from."""
    return form.terms[-1].node.at if form.terms else None
