"""Tells a file that has grown from one that was cut, replaced or changed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from multires_edge.base.descriptors import read_at
from multires_edge.format.fields import Natural, Sha256

# Bytes before the mark that are compared: many lines, whose times differ.
_ENDING = 4096


@dataclass(frozen=True)
class FileMark:
    """The first ``size`` bytes of a file. ``ending`` is the SHA-256 of the last 4096 of them."""

    size: Natural
    ending: Sha256

    @classmethod
    def of(cls, descriptor: int, size: int) -> FileMark:
        """The mark of an open file. Raises OSError."""
        start = max(0, size - _ENDING)
        return cls(size, hashlib.sha256(read_at(descriptor, size - start, start)).hexdigest())

    def fits(self, descriptor: int) -> bool:
        """Whether an open file begins with the same bytes. Raises OSError."""
        return os.fstat(descriptor).st_size >= self.size and FileMark.of(descriptor, self.size) == self
