"""Values of a step as linear forms: for each channel, a weighted sum of filtered channels of nodes.

A node is what is not linear and per channel: an input, a product with a matrix, a nonlinear function, a norm.
Everything between nodes is one form, so that it does not matter how a module writes it. Filters commute;
each is a polynomial in the delay. Whatever is delayed or filtered is zero before the first step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]
ABSENT = -1  # the channel of a term that a channel of the form does not have


class UnmatchedError(Exception):
    """A part that no MultiresNet has; ``at`` is the instruction of the program, None for the whole."""

    def __init__(self, why: str, at: str | None = None) -> None:
        super().__init__(why)
        self.at = at


@dataclass(frozen=True, eq=False)
class Node:
    """``width`` is its number of channels, ``at`` the instruction that it comes from."""

    width: int
    at: str

    @property
    def key(self) -> object:
        """Equal for nodes of equal values."""
        return id(self)


@dataclass(frozen=True, eq=False)
class Input(Node):
    """An input of the module."""


@dataclass(frozen=True, eq=False)
class Embedded(Node):
    """Rows of a table (n_tokens, width) by the tokens in ``source``."""

    table: Array
    source: Form


@dataclass(frozen=True, eq=False)
class Mixed(Node):
    """weight (width, width of the source, taps) by delay, and bias (width,)."""

    weight: Array
    bias: Array
    source: Form


@dataclass(frozen=True, eq=False)
class Frozen(Node):
    """The value of a form, as a node."""

    source: Form

    @cached_property
    def key(self) -> object:
        return "frozen", self.source.key


@dataclass(frozen=True, eq=False)
class Function(Node):
    """The same function of each channel of ``argument``."""

    argument: Node
    value: Callable[[Array], Array]

    @property
    def key(self) -> object:
        return "function", self.argument.key, self.value


@dataclass(frozen=True, eq=False)
class Product(Node):
    """The product of two forms, channel by channel."""

    left: Form
    right: Form


@dataclass(frozen=True, eq=False)
class Mean(Node):
    """The mean over each of ``width`` equal parts of the channels of ``source``."""

    source: Form


@dataclass(frozen=True, eq=False)
class Norm(Node):
    """x / sqrt(mean(x^2) + epsilon) over ``groups`` equal parts, of x minus its mean if ``centred``."""

    source: Form
    groups: int
    epsilon: float
    centred: bool


@dataclass(frozen=True, eq=False)
class Softmax(Node):
    """exp(x) over its sum over all channels of ``source``."""

    source: Form


@dataclass(frozen=True, eq=False)
class Pooled(Node):
    """The mean or maximum over all steps, or the last step."""

    source: Form
    how: str


@dataclass(frozen=True, eq=False)
class Filter:
    """A causal filter of each channel: taps (width, K) by delay, in units of ``dilation`` steps."""

    taps: Array
    dilation: int

    @property
    def key(self) -> tuple[int, bytes]:
        return self.dilation, self.taps.tobytes()


@dataclass(frozen=True, eq=False)
class Term:
    """factors * filters(node[channels] of ``delay`` steps ago). ``channels`` may be ``ABSENT``."""

    node: Node
    channels: Index
    factors: Array
    filters: tuple[Filter, ...] = ()
    delay: int = 0

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for terms whose factors may be added."""
        return self.node.key, self.channels.tobytes(), tuple(f.key for f in self.filters), self.delay

    @property
    def is_whole(self) -> bool:
        """Whether it has the channels of the node in their order."""
        return np.array_equal(self.channels, np.arange(self.node.width))

    @property
    def is_plain(self) -> bool:
        """Whether it is neither filtered nor delayed."""
        return not self.filters and self.delay == 0


@dataclass(frozen=True, eq=False)
class Form:
    """A sum of terms and a bias (width,)."""

    terms: tuple[Term, ...]
    bias: Array

    @classmethod
    def of(cls, node: Node) -> Form:
        """The node itself."""
        return cls((Term(node, np.arange(node.width), np.ones(node.width)),), np.zeros(node.width))

    @classmethod
    def constant(cls, values: Array) -> Form:
        return cls((), values)

    @property
    def width(self) -> int:
        return len(self.bias)

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for equal forms."""
        return frozenset((t.key, t.factors.tobytes()) for t in self.terms), self.bias.tobytes()

    @property
    def bare(self) -> Node | None:
        """The node, if the form is nothing else."""
        if len(self.terms) != 1 or self.bias.any():
            return None
        (term,) = self.terms
        return term.node if term.is_plain and term.is_whole and np.all(term.factors == 1) else None

    @property
    def nodes(self) -> list[Node]:
        """Each node once."""
        return list({term.node.key: term.node for term in self.terms}.values())

    def __add__(self, other: Form) -> Form:
        added: dict[object, Term] = {term.key: term for term in self.terms}
        for term in other.terms:
            known = added.get(term.key)
            added[term.key] = term if known is None else replace(term, factors=known.factors + term.factors)
        return Form(tuple(t for t in added.values() if t.factors.any()), self.bias + other.bias)

    def scaled(self, factors: Array | float) -> Form:
        terms = (replace(term, factors=term.factors * factors) for term in self.terms)
        return Form(tuple(term for term in terms if term.factors.any()), self.bias * factors)

    def divided(self, by: Array) -> Form:
        terms = (replace(term, factors=term.factors / by) for term in self.terms)
        return Form(tuple(terms), self.bias / by)

    def without(self, term: Term) -> Form:
        return replace(self, terms=tuple(each for each in self.terms if each is not term))

    def delayed(self, steps: int) -> Form:
        return replace(self, terms=tuple(replace(term, delay=term.delay + steps) for term in self.terms))

    def filtered(self, given: Filter) -> Form:
        """Filtered once more. Filters are kept in the order of their dilations."""
        terms = []
        for term in self.terms:
            filters = sorted((*term.filters, given), key=lambda each: each.key)
            terms.append(replace(term, filters=tuple(filters)))
        return Form((), self.bias) + Form(tuple(terms), np.zeros(self.width))

    def gathered(self, index: Index) -> Form:
        """The channels of an index."""
        if np.array_equal(index, np.arange(self.width)):
            return self
        terms = (_gathered(term, index) for term in self.terms)
        kept = tuple(term for term in terms if (term.channels != ABSENT).any())
        return Form((), self.bias[index]) + Form(kept, np.zeros(len(index)))


def _gathered(term: Term, index: Index) -> Term:
    filters = tuple(replace(each, taps=np.ascontiguousarray(each.taps[index])) for each in term.filters)
    node, channels = term.node, term.channels[index]
    if isinstance(node, Function) and ABSENT not in channels:
        # A function of fewer channels, so that it may meet others of these.
        node = Function(
            len(index), node.at, frozen(form_of(node.argument).gathered(channels), node.at), node.value
        )
        channels = np.arange(len(index))
    return replace(term, node=node, channels=channels, factors=term.factors[index], filters=filters)


def concatenated(forms: list[Form]) -> Form:
    """Forms one behind the other. Terms that differ in their channels alone become one."""
    width = sum(form.width for form in forms)
    joined: list[Term] = []
    start = 0
    for form in forms:
        place = slice(start, start + form.width)
        start += form.width
        for term in form.terms:
            wide = _widened(term, place, width)
            for i, other in enumerate(joined):
                if (both := _united(other, wide)) is not None:
                    joined[i] = both
                    break
            else:
                joined.append(wide)
    return Form(tuple(joined), np.concatenate([form.bias for form in forms]))


def _widened(term: Term, place: slice, width: int) -> Term:
    def wide(values: NDArray[Any], fill: int) -> NDArray[Any]:
        result = np.full((width, *values.shape[1:]), fill, values.dtype)
        result[place] = values
        return result

    filters = tuple(replace(each, taps=wide(each.taps, 0)) for each in term.filters)
    channels, factors = wide(term.channels, ABSENT), wide(term.factors, 0)
    return replace(term, channels=channels, factors=factors, filters=filters)


def _united(one: Term, other: Term) -> Term | None:
    """Two terms of different channels as one; None if they differ in more."""
    shapes = [[(f.dilation, f.taps.shape) for f in term.filters] for term in (one, other)]
    both = (one.channels != ABSENT) & (other.channels != ABSENT)
    if one.node.key != other.node.key or one.delay != other.delay or shapes[0] != shapes[1] or both.any():
        return None
    first = one.channels != ABSENT
    filters = tuple(
        replace(a, taps=np.where(first[:, None], a.taps, b.taps))
        for a, b in zip(one.filters, other.filters, strict=True)
    )
    channels = np.where(first, one.channels, other.channels)
    return replace(one, channels=channels, factors=one.factors + other.factors, filters=filters)


def frozen(form: Form, at: str) -> Node:
    """The node with the value of a form."""
    return form.bare or Frozen(form.width, at, form)


def form_of(node: Node) -> Form:
    """The form that a frozen node has the value of, and any other node as a form."""
    return node.source if isinstance(node, Frozen) else Form.of(node)


def ratio(form: Form, other: Form) -> Array | None:
    """What each channel of ``other`` is multiplied with to give ``form``; None if nothing does."""
    mine = {term.key: term.factors for term in form.terms}
    theirs = {term.key: term.factors for term in other.terms}
    if mine.keys() != theirs.keys():
        return None
    rows = [(mine[key], theirs[key]) for key in mine] + [(form.bias, other.bias)]
    ratios = np.ones(form.width)
    known = np.zeros(form.width, bool)
    for a, b in rows:
        new = ~known & (b != 0)
        ratios[new] = a[new] / b[new]
        known |= new
    same = all(np.allclose(a, ratios * b, rtol=1e-13, atol=0) for a, b in rows)
    return ratios if same else None
