"""Join the filters of a program's channels into banks, for a step.

Between nonlinearities and products with matrices a network is often linear in each channel: convolutions of
single channels, factors, sums and delays. What such a run gives is a weighted sum of values of this step and
of rows of its rings, in whatever operators a module writes it:

    y(t)   = sum of factors * x(t) + sum over taps of factors * rings + bias
    row(t) = sum of factors * x(t), earlier rows and taps + bias

The second part of y is known before the step. Runs of the same form are side by side in one bank: its rings
are read and weighed once for all of them, as in the step graph of a MultiresNet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from multires_edge.export.trace.linear import LinearValues, Newest, Now, Sum, Tap, Term
from multires_edge.export.trace.program import (
    FilterBank,
    Filtered,
    Program,
    Ref,
    Ring,
    Row,
    references,
    with_numbered_rings,
)

Numbers = dict[Term, int]


def with_banks(program: Program) -> Program:
    """The program of a step, which computes the same with the filters of its channels in banks."""
    values = LinearValues(program)
    banks: dict[object, list[_Run]] = {}
    for run in _runs(values):
        banks.setdefault(run.form, []).append(run)
    filtered: dict[str, Filtered] = {}
    for number, runs in enumerate(banks.values()):
        filtered |= _joined(f"filters.{number}", runs)
    return with_numbered_rings(_with_filtered(program, filtered))


def described(step: Program) -> str:
    """What is joined in the program of a step, and what is not."""
    joined = sum(len(bank.widths) for bank in step.banks)
    rings = sum(len(bank.rings) for bank in step.banks)
    others = len(step.rings) - rings
    rest = f"{others} {'rings' if others != 1 else 'ring'} of other convolutions and delays"
    if not joined:
        return f"no filters of single channels to join: {rest}"
    runs = (
        f"{joined} runs of filters of single channels"
        if joined != 1
        else "a run of filters of single channels"
    )
    return f"joined: {runs}, in {rings} {'rings' if rings != 1 else 'ring'}; {rest}"


@dataclass
class _Run:
    """Rings that are read together, what they get, and the values by name that are made of them."""

    rings: list[Ring]
    rows: list[Sum]
    outputs: dict[str, Sum]

    @property
    def width(self) -> int:
        return self.rings[0].width

    @cached_property
    def taps(self) -> Numbers:
        return _numbers(Tap(ring.name, delay) for ring in self.rings for delay in ring.delays)

    @cached_property
    def newest(self) -> Numbers:
        return _numbers(Newest(ring.name) for ring in self.rings)

    @cached_property
    def sources(self) -> Numbers:
        """The values of this step that its rows need."""
        return _numbers(term for row in self.rows for term in row.terms if isinstance(term, Now))

    @property
    def form(self) -> object:
        """Equal for runs that can be in one bank."""
        keys = _numbers([*self.sources, *self.newest, *self.taps])
        rows = tuple(frozenset(keys[term] for term in row.terms) for row in self.rows)
        rings = tuple((ring.slots, ring.dilation) for ring in self.rings)
        return rings, rows, len(self.outputs), len(self.sources)


def _runs(values: LinearValues) -> list[_Run]:
    outputs = {name: values.values[name].whole for name in _outputs(values)}
    groups = _Groups(values.rows)
    for output in outputs.values():
        groups.unite(tap.ring for tap in output.taps)
    for name, row in values.rows.items():
        groups.unite([name, *(term.ring for term in row.terms if not isinstance(term, Now))])
    return [
        _Run(
            [values.rings[name] for name in names],
            [values.rows[name] for name in names],
            {name: output for name, output in outputs.items() if output.taps[0].ring in names},
        )
        for names in groups.all()
    ]


def _outputs(values: LinearValues) -> Iterator[str]:
    """The values that are made of taps, and read by what is not linear in each channel."""
    read = [*values.program.outputs.values()]
    for each in values.program.instructions:
        if not values.has_taps(each.name):
            read += references(each)
    for name in read:
        first, source = name, values.source_of_moved(name)
        while source is not None:
            first, source = source, values.source_of_moved(source)
        if values.has_taps(first):
            yield first


def _joined(name: str, runs: list[_Run]) -> dict[str, Filtered]:
    """The outputs of runs of the same form, in one bank."""
    first, width = runs[0], sum(run.width for run in runs)
    rings = tuple(replace(ring, name=f"{name}/{ring.name}", width=width) for ring in first.rings)
    rows = tuple(
        Row(
            _side_by_side([_numbered(run.rows[i], run.sources) for run in runs]),
            _side_by_side([_numbered(run.rows[i], run.newest) for run in runs]),
            _side_by_side([_numbered(run.rows[i], run.taps) for run in runs]),
            torch.cat([run.rows[i].bias for run in runs]),
        )
        for i in range(len(rings))
    )
    n_outputs, dtype = len(first.outputs), first.rings[0].dtype
    weights = torch.zeros(n_outputs, len(first.taps), width, dtype=dtype)
    bias = torch.zeros(n_outputs, width, dtype=dtype)
    start = 0
    for run in runs:
        part = slice(start, start + run.width)
        for number, output in enumerate(run.outputs.values()):
            bias[number, part] = output.bias
            for tap, factors in _numbered(output, run.taps).items():
                weights[number, tap, part] = factors
        start = part.stop
    sources = tuple(
        tuple(Ref(each.value) for each in of_runs if isinstance(each, Now))
        for of_runs in zip(*(run.sources for run in runs), strict=True)
    )
    bank = FilterBank(name, rings, tuple(run.width for run in runs), sources, rows, weights, bias)
    return {
        output: Filtered(
            output,
            tuple((Ref(term.value), f) for term, f in total.terms.items() if isinstance(term, Now)),
            bank,
            number,
            part,
        )
        for part, run in enumerate(runs)
        for number, (output, total) in enumerate(run.outputs.items())
    }


def _numbers(terms: Iterable[Term]) -> Numbers:
    return {term: i for i, term in enumerate(dict.fromkeys(terms))}


def _numbered(total: Sum, numbers: Numbers) -> dict[int, Tensor]:
    """The factors of the terms that have numbers."""
    return {numbers[term]: factors for term, factors in total.terms.items() if term in numbers}


def _side_by_side(parts: list[dict[int, Tensor]]) -> dict[int, Tensor]:
    return {number: torch.cat([part[number] for part in parts]) for number in parts[0]}


def _with_filtered(program: Program, filtered: dict[str, Filtered]) -> Program:
    """The program with these outputs of banks, and without what nothing reads any more."""
    needed = {*program.outputs.values()}
    needed |= {ref.name for each in filtered.values() for refs in each.bank.sources for ref in refs}
    kept = []
    for instruction in reversed(program.instructions):
        if instruction.name in needed:
            each = filtered.get(instruction.name, instruction)
            kept.append(each)
            needed |= set(references(each))
    constants = {name: tensor for name, tensor in program.constants.items() if name in needed}
    return replace(program, instructions=tuple(reversed(kept)), constants=constants)


class _Groups:
    """Names that are connected."""

    def __init__(self, names: Iterable[str]) -> None:
        self._group = {name: [name] for name in names}

    def unite(self, names: Iterable[str]) -> None:
        first, *others = dict.fromkeys(names)
        for other in others:
            if self._group[other] is not self._group[first]:
                self._group[first] += self._group[other]
                for name in self._group[other]:
                    self._group[name] = self._group[first]

    def all(self) -> list[list[str]]:
        """Each group, its names in the order in which they were given."""
        order = {name: i for i, name in enumerate(self._group)}
        groups = {id(group): group for group in self._group.values()}
        return [sorted(group, key=order.__getitem__) for group in groups.values()]
