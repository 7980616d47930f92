"""Verifying Ed25519 signatures (RFC 8032), in Python's integers.

A device verifies bundles, and should install nothing for it. Verifying handles public values alone, so its
time may depend on them. Signing handles a secret, so the package ``cryptography`` does it.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

KEY_BYTES = 32
SIGNATURE_BYTES = 64

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493  # of the base point
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_1 = pow(2, (_P - 1) // 4, _P)


class _Point(NamedTuple):
    """A point x = X/Z, y = Y/Z of the curve -x² + y² = 1 + d x² y², with T = XY/Z (RFC 8032, 5.1.4)."""

    x: int
    y: int
    z: int
    t: int


_ZERO = _Point(0, 1, 1, 0)


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature of a message was made with the secret key that belongs to a public ``key``.

    The rules are the strict ones of libsodium: a signature has one encoding only, and keys of small order,
    which fit many messages, fit none.
    """
    if len(key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    point, scalar = _decode(key), int.from_bytes(signature[32:], "little")
    if point is None or scalar >= _ORDER or _is_zero(_times(8, point)):
        return False
    hashed = hashlib.sha512(signature[:32] + key + message).digest()
    challenge = int.from_bytes(hashed, "little") % _ORDER
    # R = s B - h A
    return _encode(_sum_of_products(scalar, _BASE, challenge, _negative(point))) == signature[:32]


def _decode(data: bytes) -> _Point | None:
    """A point from its encoding: y, and the lowest bit of x as the highest bit. None if no point has it."""
    y = int.from_bytes(data, "little")
    odd, y = y >> 255, y & (1 << 255) - 1
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if x * x % _P != square:
        x = x * _ROOT_OF_MINUS_1 % _P
    if x * x % _P != square or (x == 0 and odd):
        return None
    x = x if x & 1 == odd else _P - x
    return _Point(x, y, 1, x * y % _P)


def _encode(point: _Point) -> bytes:
    inverse = pow(point.z, -1, _P)
    x, y = point.x * inverse % _P, point.y * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _is_zero(point: _Point) -> bool:
    return point.x % _P == 0 and (point.y - point.z) % _P == 0


def _negative(point: _Point) -> _Point:
    return _Point(_P - point.x, point.y, point.z, _P - point.t)


def _add(p: _Point, q: _Point) -> _Point:
    """The sum, by the complete formulas of RFC 8032: they hold for equal points and for zero, too."""
    a = (p.y - p.x) * (q.y - q.x) % _P
    b = (p.y + p.x) * (q.y + q.x) % _P
    c = 2 * p.t * q.t * _D % _P
    d = 2 * p.z * q.z % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return _Point(e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _times(factor: int, point: _Point) -> _Point:
    return _sum_of_products(factor, point, 0, _ZERO)


def _sum_of_products(a: int, p: _Point, b: int, q: _Point) -> _Point:
    """a p + b q, with one doubling for each bit."""
    addends = {(0, 1): q, (1, 0): p, (1, 1): _add(p, q)}
    total = _ZERO
    for i in reversed(range(max(a.bit_length(), b.bit_length()))):
        total = _add(total, total)
        bits = (a >> i & 1, b >> i & 1)
        if bits in addends:
            total = _add(total, addends[bits])
    return total


def _base_point() -> _Point:
    point = _decode((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
    assert point is not None
    return point


_BASE = _base_point()
