"""Pairs of keys in minisign's files, for the tests of signatures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from multires_edge.export.signing import read_secret_key, sign_bundle, stretch
from multires_edge.format.minisign import decode, encode


@dataclass(frozen=True)
class KeyPair:
    """The files of a secret key and of its public key."""

    secret: Path
    public: Path

    def sign(self, bundle: Path, comment: str | None = None) -> None:
        sign_bundle(bundle, read_secret_key(self.secret, lambda: ""), comment)


def make_keys(folder: Path, number: int = 1) -> KeyPair:
    """A pair of keys without a password, which is always the same for a ``number``."""
    seed = hashlib.sha256(str(number).encode()).digest()
    public = (
        Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    )
    key_id = number.to_bytes(8, "little")
    checksum = hashlib.blake2b(b"Ed" + key_id + seed + public, digest_size=32).digest()
    data = b"Ed\0\0B2" + bytes(48) + key_id + seed + public + checksum
    pair = KeyPair(folder / f"{number}.key", folder / f"{number}.pub")
    pair.secret.write_text(f"untrusted comment: minisign secret key\n{encode(data)}\n")
    pair.secret.chmod(0o600)
    pair.public.write_text(f"untrusted comment: minisign public key\n{encode(b'Ed' + key_id + public)}\n")
    return pair


def encrypt(secret: Path, password: str, operations: int, memory: int) -> None:
    """Protect a secret key with a password. The limits are those of libsodium's scrypt."""
    comment, line, _ = secret.read_text().split("\n")
    data, salt = decode(line), bytes(range(32))
    limits = operations.to_bytes(8, "little") + memory.to_bytes(8, "little")
    mask = stretch(password.encode(), salt, operations, memory, secret)
    hidden = bytes(a ^ b for a, b in zip(data[54:], mask, strict=True))
    secret.write_text(f"{comment}\n{encode(b'EdScB2' + salt + limits + hidden)}\n")
