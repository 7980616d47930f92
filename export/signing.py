"""Signing a bundle with a secret key of minisign."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from multires_edge.base.errors import InputError, SignatureError, require_extra
from multires_edge.base.files import disk_errors, sha256_of, write_file
from multires_edge.format.minisign import (
    HASHED,
    PLAIN,
    Signature,
    decode,
    key_name,
    read_lines,
)
from multires_edge.format.signed_files import LIST_FILE, SIGNATURE_FILE, files_in, list_of
from multires_edge.runtime.bundle import open_bundle

_NOT_ENCRYPTED, _SCRYPT, _BLAKE2B = b"\0\0", b"Sc", b"B2"
_SALT = slice(6, 38)
_SECRET = slice(54, 158)
_READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MOST_MEMORY = (1 << 31) - 1  # of hashlib.scrypt


@dataclass(frozen=True)
class SecretKey:
    """A key that signs. ``seed`` is the secret of RFC 8032."""

    key_id: bytes
    seed: bytes

    def __repr__(self) -> str:
        return f"<SecretKey {key_name(self.key_id)}>"


def read_secret_key(path: Path, ask_password: Callable[[], str]) -> SecretKey:
    """Read the file of a secret key that `minisign -G` wrote.

    ``ask_password`` is called if the key is encrypted. Raises SignatureError, also for a wrong password and
    for a file that other users can read.
    """
    lines = read_lines(path, "a secret key of minisign", _READABLE_BY_OTHERS, "chmod 600")
    data = decode(lines[1]) if len(lines) == 2 else b""
    if (
        len(data) != _SECRET.stop
        or data[:2] != PLAIN
        or data[2:4] not in (_NOT_ENCRYPTED, _SCRYPT)
        or data[4:6] != _BLAKE2B
    ):
        raise SignatureError(f"{path}: not a secret key of minisign; make a pair of keys with minisign -G")
    secret, encrypted = data[_SECRET], data[2:4] == _SCRYPT
    if encrypted:
        mask = stretch(ask_password().encode(), data[_SALT], _number(data[38:46]), _number(data[46:54]), path)
        secret = bytes(a ^ b for a, b in zip(secret, mask, strict=True))
    key_id, seed, public, checksum = secret[:8], secret[8:40], secret[40:72], secret[72:]
    if hashlib.blake2b(PLAIN + key_id + seed + public, digest_size=32).digest() != checksum:
        reason = "the password is wrong, or the file is" if encrypted else "is"
        raise SignatureError(f"{path}: {reason} damaged; nothing was signed")
    return SecretKey(key_id, seed)


def sign_bundle(folder: Path, key: SecretKey, comment: str | None = None) -> int:
    """Sign all files of a bundle: write ``files.sha256`` and ``files.sha256.minisig`` into it.

    ``comment`` is signed too; the default has the time. Returns the number of files. Raises BundleError for a
    bundle that is damaged or whose proof failed, OutputError, and MissingExtraError without ``cryptography``.
    """
    require_extra("sign", "signing", "cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    comment = f"timestamp:{_now()}\tfile:{LIST_FILE}\thashed" if comment is None else comment
    if not comment.replace("\t", " ").isprintable():
        raise InputError(f"the comment {comment[:80]!r} has control characters; give one line of text")
    open_bundle(folder).check_proof("signed")
    with disk_errors(folder):
        digests = {name: sha256_of(path) for name, path in files_in(folder).items()}
    content = list_of(digests)
    sign = Ed25519PrivateKey.from_private_bytes(key.seed).sign
    signature = sign(hashlib.blake2b(content).digest())
    signed = Signature(HASHED, key.key_id, signature, comment, sign(signature + comment.encode()))
    write_file(folder / LIST_FILE, content, force=True)
    untrusted = f"signature of a multires-edge bundle, with the key {key_name(key.key_id)}"
    write_file(folder / SIGNATURE_FILE, signed.to_bytes(untrusted), force=True)
    return len(digests)


def stretch(password: bytes, salt: bytes, operations: int, memory: int, path: Path) -> bytes:
    """The mask of an encrypted key, by scrypt with the parameters that libsodium derives from its limits."""
    block, parallel, operations = 8, 1, max(operations, 32768)
    by_time = operations < memory // 32
    cost = _power_of_2(operations // (block * 4) if by_time else memory // (block * 128))
    if not by_time:
        parallel = operations // 4 // cost // block
    needed = 128 * block * (cost + parallel + 2)
    if not parallel or needed > _MOST_MEMORY:
        raise SignatureError(f"{path}: needs {memory:,} bytes to try its password; make another key")
    try:
        return hashlib.scrypt(
            password,
            salt=salt,
            n=cost,
            r=block,
            p=parallel,
            maxmem=needed,
            dklen=_SECRET.stop - _SECRET.start,
        )
    except (ValueError, MemoryError) as error:
        raise SignatureError(f"{path}: its password needs {memory:,} bytes; close programs") from error


def _power_of_2(most: int) -> int:
    return 1 << max(most.bit_length() - 1, 1)


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _now() -> int:
    """The time in seconds, or SOURCE_DATE_EPOCH, which makes signatures reproducible."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(given) if given.isdecimal() else int(time.time())
