"""Samples of fixed size in frames of a file: read in parts, and never more than the file has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.descriptors import read_at
from multires_edge.runtime.ecg.sources.recordings.record import Damaged, Values

# Bytes that are read at once.
_BYTES = 1 << 22
SAMPLES_MOST = 1 << 24  # in a frame


@dataclass(frozen=True)
class Encoding:
    """``bytes`` per ``samples`` of them, and the number for a missing value."""

    name: str
    bytes: int
    missing: int
    samples: int = 1


ENCODINGS = {
    "8": Encoding("8", 1, -(1 << 8)),  # differences, of which none is missing
    "80": Encoding("80", 1, -128),
    "16": Encoding("16", 2, -(1 << 15)),
    "61": Encoding("61", 2, -(1 << 15)),
    "160": Encoding("160", 2, -(1 << 15)),
    "24": Encoding("24", 3, -(1 << 23)),
    "32": Encoding("32", 4, -(1 << 31)),
    "212": Encoding("212", 3, -(1 << 11), samples=2),
    "310": Encoding("310", 4, -(1 << 9), samples=3),
    "311": Encoding("311", 4, -(1 << 9), samples=3),
}


Numbers = NDArray[np.signedinteger[Any]]


def decode(data: bytes, encoding: str) -> Numbers:
    """The numbers in bytes."""
    numbers: Numbers
    match encoding:
        case "8":
            numbers = np.frombuffer(data, np.int8)
        case "80":
            numbers = np.frombuffer(data, np.uint8).astype(np.int16) - 128
        case "16" | "61":
            numbers = np.frombuffer(data, "<i2" if encoding == "16" else ">i2")
        case "160":
            numbers = np.frombuffer(data, "<u2").astype(np.int32) - (1 << 15)
        case "24":
            low = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int32)
            numbers = low[:, 0] | low[:, 1] << 8 | (low[:, 2] ^ 0x80) << 16
            numbers -= 1 << 23
        case "32":
            numbers = np.frombuffer(data, "<i4")
        case "212":  # two samples of 12 bits, whose upper bits are in the second byte
            first, upper, second = np.frombuffer(data, np.uint8).reshape(-1, 3).T.astype(np.int16)
            numbers = _signed(np.stack([first | upper << 8, second | upper >> 4 << 8], 1).reshape(-1), 12)
        case "310":  # three samples of 10 bits, the third in the upper bits of two words
            pair = np.frombuffer(data, "<u2").reshape(-1, 2).astype(np.int32)
            third = pair[:, 0] >> 11 | pair[:, 1] >> 11 << 5
            numbers = _signed(np.stack([pair[:, 0] >> 1, pair[:, 1] >> 1, third], 1).reshape(-1), 10)
        case _:  # 311: three samples of 10 bits in turn
            word = np.frombuffer(data, "<i4")
            numbers = _signed(np.stack([word, word >> 10, word >> 20], 1).reshape(-1), 10)
    return numbers


def _signed(numbers: Numbers, bits: int) -> Numbers:
    """The lowest bits of numbers as two's complement."""
    unused = 8 * numbers.itemsize - bits
    numbers <<= unused
    numbers >>= unused
    return numbers


@dataclass(frozen=True)
class FrameFile:
    """Frames in a file from byte ``start`` on. A frame has ``sizes`` samples of each signal in turn.
    ``has_missing``: whether a number of the encoding says that a value is missing."""  # fmt: skip

    path: Path
    encoding: str
    start: int
    sizes: Sequence[int]
    has_missing: bool = True

    @property
    def samples(self) -> int:
        """Samples of a frame."""
        return sum(self.sizes)

    def length(self) -> int:
        """Whole frames in the file."""
        encoding = ENCODINGS[self.encoding]
        size = max(0, self.path.stat().st_size - self.start)
        return size * encoding.samples // (encoding.bytes * self.samples)

    def read(self, first: int, stop: int, signals: Sequence[int]) -> Values:
        """The samples (n, signals) in the frames from ``first`` to ``stop``, NaN without a value.

        The signals have the same size. Raises Damaged if the file ends before them.
        """
        if stop > (there := self.length()):
            raise Damaged(f"the file has {there} frames")
        encoding = ENCODINGS[self.encoding]
        many = max(1, _BYTES * encoding.samples // (encoding.bytes * self.samples))
        size = self.sizes[signals[0]]
        values = np.empty(((stop - first) * size, len(signals)))
        # For each sample of a signal, the place of it in a frame.
        places = np.array([sum(self.sizes[:i]) for i in signals]) + np.arange(size)[:, None]
        in_order = np.array_equal(places.reshape(-1), np.arange(self.samples))
        with self.path.open("rb") as file:
            for at in range(first, stop, many):
                frames = self._frames(file.fileno(), at, min(at + many, stop))
                frames = frames if in_order else frames.take(places.reshape(-1), 1)
                chosen = frames.reshape(-1, len(signals))
                part = values[(at - first) * size :][: len(chosen)]
                part[:] = chosen
                if self.has_missing and (missing := chosen == encoding.missing).any():
                    part[missing] = np.nan
        return values

    def _frames(self, file: int, first: int, stop: int) -> Numbers:
        encoding = ENCODINGS[self.encoding]
        begin, end = first * self.samples, stop * self.samples
        groups = begin // encoding.samples, -(-end // encoding.samples)
        size = (groups[1] - groups[0]) * encoding.bytes
        data = read_at(file, size, self.start + groups[0] * encoding.bytes)
        # The last group may lack the bytes that no sample needs.
        last = end % encoding.samples
        unneeded = encoding.bytes - -(-last * encoding.bytes // encoding.samples) if last else 0
        if len(data) < size - unneeded:
            raise Damaged("the file ends before its samples do")
        numbers = decode(data.ljust(size, b"\0"), self.encoding)
        skipped = begin - groups[0] * encoding.samples
        return numbers[skipped : skipped + end - begin].reshape(-1, self.samples)


def one_or_each(numbers: Sequence[float]) -> float | Values:
    """One number if all are equal, with which numpy is several times as fast; or all as an array."""
    return numbers[0] if len(set(numbers)) == 1 else np.array(numbers, np.float64)


def read_bounded(path: Path, most: int) -> bytes:
    """The bytes of a file that is read as a whole. Raises Damaged if it has more than ``most``."""
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise Damaged(f"has more than {most:,} bytes")
    return data
