"""Philips' compression of leads, XLI: second differences, their bytes in two planes, packed by LZW.

A lead is a chunk: the size of its packed bytes (4 bytes), 2 bytes of unknown meaning, the first difference
(2 bytes), and the packed bytes. The codes of LZW have 10 bits.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from multires_edge.runtime.ecg.sources.recordings.record import Damaged

_HEADER = struct.Struct("<ihh")
_BITS, _LAST_CODE = 10, (1 << 10) - 2
_BIAS = 64
_BYTES_MOST = 1 << 22  # of a lead


def decompress(data: bytes) -> list[NDArray[np.int64]]:
    """The leads. Raises Damaged."""
    leads, at = [], 0
    while at + _HEADER.size <= len(data):
        size, _, first = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        if not 0 < size <= len(data) - at:
            raise Damaged("a compressed lead that ends before its samples do")
        leads.append(_integrated(_unpacked(data[at : at + size]), first))
        at += size
    return leads


def _codes(data: bytes) -> list[int]:
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    rows = bits[: len(bits) // _BITS * _BITS].reshape(-1, _BITS)
    codes: list[int] = (rows @ (1 << np.arange(_BITS)[::-1])).tolist()
    return codes


def _unpacked(data: bytes) -> bytes:
    """What LZW packed."""
    strings = [bytes([i]) for i in range(256)]
    out, size, previous = list[bytes](), 0, b""
    for code in _codes(data):
        if code > _LAST_CODE:
            break  # the end
        if code < len(strings):
            found = strings[code]
        elif code == len(strings) and previous:
            found = previous + previous[:1]
        else:
            raise Damaged("compressed samples with an unknown code")
        if previous and len(strings) <= _LAST_CODE:
            strings.append(previous + found[:1])
        previous = found
        out.append(found)
        size += len(found)
        if size > _BYTES_MOST:
            raise Damaged("a compressed lead of too many samples")
    return b"".join(out)


def _integrated(planes: bytes, first: int) -> NDArray[np.int64]:
    """Samples of their second differences, of which the high bytes come first.

    The first two are samples: x[n] = 2 x[n-1] - x[n-2] - d[n-1], where d[1] is ``first`` and d[n] the
    number at n less 64.
    """
    half = (len(planes) + 1) // 2
    plane = np.frombuffer(planes.ljust(2 * half, b"\0"), np.uint8).astype(np.uint16)
    numbers = (plane[:half] << 8 | plane[half:]).astype(np.uint16).view(np.int16).astype(np.int64)
    if half < 2:
        raise Damaged("a compressed lead without samples")
    differences = np.concatenate([[first], numbers[2:-1] - _BIAS]) if half > 2 else np.zeros(0, np.int64)
    slopes = (numbers[1] - numbers[0]) - np.cumsum(differences)
    samples = np.concatenate([numbers[:2], numbers[1] + np.cumsum(slopes)])
    return samples.astype(np.int64)
