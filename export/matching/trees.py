"""Find the filter tree of a multiresolution layer in a linear form.

A layer computes, with a_0 = x, a_{j+1} = h0_j * a_j at dilation 2^j,

    y = w_last a_0 + w_0 a_depth + sum_j w_j (h1_j * a_j)

so that its form has a term for each product of filters: the first j filters h0, and h1_j at the end. Several
memory weights of a scale are one more filter, at twice the dilation, or delays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from multires_edge.export.matching.forms import Array, Filter, Form, Node, Term, UnmatchedError


@dataclass
class Tree:
    """Filters (d, K) by delay. ``memory[j]`` (d, n_j) are the memory weights of scale j.

    ``coarsest`` and ``direct`` (d,) weigh a_depth and the input.
    """

    lowpass: list[Array]
    highpass: list[Array]
    memory: list[Array]
    coarsest: Array
    direct: Array

    @property
    def depth(self) -> int:
        return len(self.lowpass)

    @property
    def kernel_size(self) -> int:
        return int(self.lowpass[0].shape[1])

    @property
    def tied(self) -> bool:
        """Whether all scales have the same filters."""
        return all(np.array_equal(h, each[0]) for each in (self.lowpass, self.highpass) for h in each)


@dataclass
class _Scale:
    """What a layer reads of one scale: taps of a_j, and filters of it with their memory weights."""

    taps: dict[int, Array] = field(default_factory=dict)
    filters: dict[object, tuple[Array, dict[int, Array]]] = field(default_factory=dict)

    @property
    def is_simple(self) -> bool:
        """Whether it is read by one filter at most."""
        return len(self.filters) <= 1 and not self.taps

    def remember(self, taps: Array, place: int, weights: Array) -> None:
        _, memory = self.filters.setdefault(taps.tobytes(), (taps, {}))
        memory[place] = memory.get(place, 0) + weights


@dataclass(frozen=True)
class _Reading:
    """What a layer reads, if ``chain`` are its low-pass filters."""

    chain: Sequence[Filter]
    scales: list[_Scale]
    coarsest: Array
    direct: Array


def base_of(form: Form) -> Node:
    """The node whose channels a tree reads. Raises UnmatchedError."""
    if form.bias.any():
        raise UnmatchedError("adds a bias to the filters of a layer")
    if len(form.nodes) != 1:
        at = form.nodes[-1].at if form.nodes else None
        raise UnmatchedError("is added to what the filters of a layer give", at)
    (node,) = form.nodes
    if not all(term.is_whole for term in form.terms):
        raise UnmatchedError("is filtered with its channels in another order", node.at)
    return node


def find_tree(form: Form) -> Tree:
    """The tree of a form whose only node is the input of the layer. Raises UnmatchedError."""
    node = base_of(form)
    longest = max(len(term.filters) for term in form.terms)
    if not longest:
        raise UnmatchedError(
            "gives the input of an activation or a mixing, and has no filters over time", node.at
        )
    chains = [term.filters for term in form.terms if len(term.filters) == longest]
    chains.sort(key=lambda chain: len({each.taps.tobytes() for each in chain}))  # equal filters first
    found: list[_Reading] = []
    reasons: list[str] = []
    for chain in chains:
        try:
            found.append(_read(form.terms, chain))
        except UnmatchedError as error:
            reasons.append(str(error))
    if not found:
        raise UnmatchedError(f"is the input of filters that are no tree: {reasons[0]}", node.at)
    # Memory weights can look like a low-pass. Then other scales have several filters, or none.
    return _tree(min(found, key=lambda reading: sum(len(scale.filters) != 1 for scale in reading.scales)))


def _read(terms: Sequence[Term], chain: Sequence[Filter]) -> _Reading:
    """The terms of a form, where ``chain`` are the low-pass filters."""
    if any(each.dilation != 1 << j for j, each in enumerate(chain)):
        dilations = ", ".join(str(each.dilation) for each in chain)
        raise UnmatchedError(f"their dilations are {dilations}, and those of a tree are 1, 2, 4, ...")
    scales = [_Scale() for _ in chain]
    depth = len(chain)
    keys = [each.key for each in chain]
    direct = coarsest = np.zeros(len(terms[0].factors))
    for term in terms:
        own = [each.key for each in term.filters]
        j = next((i for i, (a, b) in enumerate(zip(own, keys, strict=False)) if a != b), min(len(own), depth))
        rest = term.filters[j:]
        if not rest and j == depth and not term.delay:
            coarsest = coarsest + term.factors
        elif not rest and not j and not term.delay:
            direct = direct + term.factors
        elif not rest and j < depth and term.delay % (1 << j) == 0:
            taps = scales[j].taps
            taps[term.delay >> j] = taps.get(term.delay >> j, 0) + term.factors
        elif not _remember(scales, j, term, rest) and not (
            # A filter of a scale may be equal to its low-pass.
            j and _remember(scales, j - 1, term, term.filters[j - 1 :])
        ):
            raise UnmatchedError(
                f"after {j} low-pass filters there are filters of the dilations "
                f"{', '.join(str(each.dilation) for each in rest)} and a delay of {term.delay} steps"
            )
    return _Reading(chain, scales, coarsest, direct)


def _remember(scales: list[_Scale], j: int, term: Term, rest: Sequence[Filter]) -> bool:
    """Enter a term that filters a_j by one filter, and by its memory weights."""
    if j >= len(scales) or not 1 <= len(rest) <= 2 or rest[0].dilation != 1 << j or term.delay % (2 << j):
        return False
    place = term.delay >> (j + 1)
    if len(rest) == 1:
        scales[j].remember(rest[0].taps, place, term.factors)
        return True
    if rest[1].dilation != 2 << j:
        return False
    for k, weights in enumerate(rest[1].taps.T):
        scales[j].remember(rest[0].taps, place + k, term.factors * weights)
    return True


def _tree(reading: _Reading) -> Tree:
    chain, scales, d = reading.chain, reading.scales, len(reading.direct)
    size = max(2, *(each.taps.shape[1] for each in chain))
    size = max(size, *(taps.shape[1] for scale in scales for taps, _ in scale.filters.values()), size)
    lowpass = [_padded(each.taps, size) for each in chain]
    highpass, memory = [], []
    for j, scale in enumerate(scales):
        if not scale.is_simple:
            whole, weights = _whole(scale, d), np.ones((d, 1))
        elif scale.filters:
            ((whole, places),) = scale.filters.values()
            weights = np.stack([places.get(k, np.zeros(d)) for k in range(max(places) + 1)], 1)
        else:
            whole, weights = np.zeros_like(lowpass[0]), np.zeros((d, 0))
        if whole.shape[1] > size:
            raise UnmatchedError(
                f"scale {j} is read at {whole.shape[1]} steps by several filters, expected at most {size}"
            )
        highpass.append(_padded(whole, size))
        memory.append(weights)
    # A scale without weights has the filter of the others, so that they stay tied.
    used = [j for j, weights in enumerate(memory) if weights.size]
    for j, weights in enumerate(memory):
        if used and not weights.size:
            highpass[j] = highpass[used[0]]
    return Tree(lowpass, highpass, memory, reading.coarsest, reading.direct)


def _whole(scale: _Scale, d: int) -> Array:
    """All that a scale is read by, as one filter."""
    parts = [(place, weights[:, None]) for place, weights in scale.taps.items()]
    for taps, memory in scale.filters.values():
        parts += [(2 * place, weights[:, None] * taps) for place, weights in memory.items()]
    whole = np.zeros((d, max(place + part.shape[1] for place, part in parts)))
    for place, part in parts:
        whole[:, place : place + part.shape[1]] += part
    return whole


def _padded(taps: Array, size: int) -> Array:
    return np.pad(taps, ((0, 0), (0, size - taps.shape[1])))
