"""A traced network as instructions, each with a meaning for a whole sequence and for one step of a stream.

Both graphs and the reference of a step are written from this one list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch

BATCH, TIME, MERGED = "batch", "time", "batch*time"
Pooled = Literal["mean", "sum", "max", "last", "cumsum"]


@dataclass(frozen=True)
class Layout:
    """Shape and type of a value. A dimension is a size, ``BATCH``, ``TIME``, or both as one, ``MERGED``.

    ``extra`` is how many more steps than the inputs it has, for a value that is padded or cut.
    """

    shape: tuple[int | str, ...]
    dtype: torch.dtype
    extra: int = 0

    @property
    def axis(self) -> int | None:
        """The axis of time, also where it is one with the batch; None without one."""
        return next((i for i, size in enumerate(self.shape) if size in (TIME, MERGED)), None)

    @property
    def step_shape(self) -> tuple[int | str, ...]:
        """The shape of one step, without the axis of time."""
        return tuple(BATCH if size == MERGED else size for size in self.shape if size != TIME)

    def sizes(self, batch: int) -> list[int]:
        """The shape of one step with time as an axis of size 1."""
        return [batch if size in (BATCH, MERGED) else 1 if size == TIME else int(size) for size in self.shape]

    @property
    def width(self) -> int:
        """The number of values of one step of one stream."""
        return torch.Size(int(size) for size in self.step_shape if size != BATCH).numel()


@dataclass(frozen=True)
class Ref:
    """An argument of an instruction: a value or a constant, by name."""

    name: str


@dataclass(frozen=True)
class Ring:
    """The rows of a value in the last ``slots`` - 1 steps, read at all multiples of ``dilation``.

    ``before`` (width,) is the row of the steps before the first; None for zeros.
    """

    name: str
    slots: int
    dilation: int
    width: int
    dtype: torch.dtype
    before: torch.Tensor | None = None

    @property
    def delays(self) -> range:
        return range(self.dilation, self.slots, self.dilation)


@dataclass(frozen=True)
class Operator:
    """An operator that treats every step alike. ``args`` may hold references."""

    name: str
    kind: str
    target: Any
    args: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reshape:
    """The same values in the layout of ``name``."""

    name: str
    source: Ref


@dataclass(frozen=True)
class Pad:
    """``left`` and ``right`` more steps of ``value``. In a stream they are the state at the start.

    ``mask`` > 0: the first so many steps of the stream are not yet values of the source, but padding.
    """

    name: str
    source: Ref
    left: int
    right: int
    value: float
    mask: int = 0


@dataclass(frozen=True)
class Cut:
    """Without the first ``start`` and the last ``end`` steps. In a stream it changes nothing."""

    name: str
    source: Ref
    start: int
    end: int


@dataclass(frozen=True)
class Delay:
    """The value of an earlier step in a stream, so that it meets others of its own time."""

    name: str
    source: Ref
    ring: Ring


@dataclass(frozen=True)
class Convolution:
    """A convolution whose axis ``axis`` is time; ``left`` and ``right`` zeros are added to it before.

    The other spatial axes have ``dilations``, ``strides`` and ``padding`` of their own. ``ring`` is None for
    a kernel of one step.
    """

    name: str
    source: Ref
    weight: Ref
    bias: Ref | None
    axis: int
    left: int
    right: int
    strides: tuple[int, ...]
    padding: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int
    ring: Ring | None

    @property
    def spatial(self) -> int:
        """The number of time among the spatial axes."""
        return self.axis - 2


@dataclass(frozen=True)
class Pool:
    """A value over all steps so far. ``state`` is the name of its state; "last" has none."""

    name: str
    source: Ref
    how: Pooled
    keep: bool
    state: str | None


@dataclass(frozen=True)
class Recurrence:
    """A layer of an LSTM or a GRU, from zeros; see `torch.nn.LSTM` and `torch.nn.GRU` for its equations.

    ``weights`` are those of the input and of the state, with their biases if there are any; ``width`` is that
    of its state. ``number`` is that among the program's recurrences.
    """

    name: str
    source: Ref
    kind: Literal["lstm", "gru"]
    weights: tuple[Ref, ...]
    width: int
    number: int = 0

    @property
    def states(self) -> tuple[str, ...]:
        """The names of its states, the output first."""
        names = ("recurrent_output", "recurrent_memory") if self.kind == "lstm" else ("recurrent_output",)
        return tuple(f"{name}_{self.number:02d}" for name in names)


@dataclass(frozen=True, eq=False)
class Row:
    """This step's row of a ring, as a sum over its channels' own values.

    ``sources``, ``rows`` and ``taps`` have the factors (width,) of the bank's sources, of the rows of its
    earlier rings and of its taps, by their numbers.
    """

    sources: dict[int, torch.Tensor]
    rows: dict[int, torch.Tensor]
    taps: dict[int, torch.Tensor]
    bias: torch.Tensor


@dataclass(frozen=True, eq=False)
class FilterBank:
    """Filters of each channel, those of several values side by side: each has a part of ``widths`` channels.

    The taps of a bank are the rows of all ``rings`` at their delays, ring after ring. Each of ``sources`` is
    a value for each part. ``rows`` are what the rings get; they are known at the end of a step. ``outputs``
    (outputs, taps, width) weighs the taps, ``bias`` is (outputs, width); the sum is known before the step.
    """

    name: str
    rings: tuple[Ring, ...]
    widths: tuple[int, ...]
    sources: tuple[tuple[Ref, ...], ...]
    rows: tuple[Row, ...]
    outputs: torch.Tensor
    bias: torch.Tensor

    @property
    def width(self) -> int:
        return sum(self.widths)

    def channels(self, part: int) -> slice:
        """The channels of a part."""
        start = sum(self.widths[:part])
        return slice(start, start + self.widths[part])


@dataclass(frozen=True, eq=False)
class Filtered:
    """A part of an output of a bank, and values of this step with factors (width,)."""

    name: str
    terms: tuple[tuple[Ref, torch.Tensor], ...]
    bank: FilterBank
    output: int
    part: int


Instruction = Operator | Reshape | Pad | Cut | Delay | Convolution | Pool | Recurrence | Filtered


def references(instruction: Any) -> Iterator[str]:
    """The names of all values and constants that an instruction reads."""
    if isinstance(instruction, Ref):
        yield instruction.name
    elif isinstance(instruction, tuple | list):
        for item in instruction:
            yield from references(item)
    elif isinstance(instruction, Instruction):
        for each in fields(instruction):
            yield from references(getattr(instruction, each.name))


@dataclass(frozen=True)
class Program:
    """``inputs`` and ``outputs`` are names of values; ``reach`` is the past steps that an output depends on.

    ``layouts`` has every value that is no constant.
    """

    inputs: tuple[str, ...]
    outputs: dict[str, str]
    instructions: tuple[Instruction, ...]
    layouts: dict[str, Layout]
    constants: dict[str, torch.Tensor]
    reach: int

    @property
    def banks(self) -> list[FilterBank]:
        """Every bank once, in the order in which they are first read."""
        return list(dict.fromkeys(each.bank for each in self.instructions if isinstance(each, Filtered)))

    @property
    def rings(self) -> list[Ring]:
        """Every ring once, in the order in which they are first read."""
        found: dict[str, Ring] = {}
        for each in self.instructions:
            read = each.bank.rings if isinstance(each, Filtered) else (getattr(each, "ring", None),)
            found |= {ring.name: ring for ring in read if ring is not None}
        return list(found.values())

    @property
    def pools(self) -> list[Pool]:
        """The running values that have a state."""
        return [each for each in self.instructions if isinstance(each, Pool) and each.state is not None]


def with_numbered_rings(program: Program) -> Program:
    """The program with names for its rings, in the order in which they are read."""
    names = [ring.name for ring in program.rings]
    digits = max(2, len(str(len(names) - 1)))
    named = {name: f"queue_{i:0{digits}d}" for i, name in enumerate(names)}

    def renamed(ring: Ring) -> Ring:
        return replace(ring, name=named[ring.name])

    banks = {bank: replace(bank, rings=tuple(map(renamed, bank.rings))) for bank in program.banks}

    def reading(each: Instruction) -> Instruction:
        if isinstance(each, Filtered):
            return replace(each, bank=banks[each.bank])
        if isinstance(each, Delay | Convolution) and each.ring is not None:
            return replace(each, ring=renamed(each.ring))
        return each

    return replace(program, instructions=tuple(map(reading, program.instructions)))
