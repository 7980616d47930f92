"""Public keys and signatures in the files of minisign (https://jedisct1.github.io/minisign/)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from multires_edge.base.ed25519 import KEY_BYTES, SIGNATURE_BYTES, verify
from multires_edge.base.errors import SignatureError
from multires_edge.base.files import open_regular

KEY_ID_BYTES = 8
PLAIN, HASHED = b"Ed", b"ED"  # what was signed: the content, or its BLAKE2b-512
UNTRUSTED, TRUSTED = "untrusted comment: ", "trusted comment: "
_MOST_BYTES = 16_384
_WRITABLE_BY_OTHERS = stat.S_IWOTH


@dataclass(frozen=True)
class PublicKey:
    """A key that checks signatures. ``key_id`` and ``key`` are the bytes in its file."""

    key_id: bytes
    key: bytes

    @property
    def name(self) -> str:
        """The number that minisign shows."""
        return key_name(self.key_id)


@dataclass(frozen=True)
class Signature:
    """A signature, with a comment that is signed too."""

    algorithm: bytes
    key_id: bytes
    signature: bytes
    trusted_comment: str
    of_comment: bytes

    @property
    def key_name(self) -> str:
        """The number of the key, as minisign shows it."""
        return key_name(self.key_id)

    def to_bytes(self, untrusted_comment: str) -> bytes:
        """The content of a ``.minisig`` file."""
        lines = [
            UNTRUSTED + untrusted_comment,
            encode(self.algorithm + self.key_id + self.signature),
            TRUSTED + self.trusted_comment,
            encode(self.of_comment),
        ]
        return "".join(f"{line}\n" for line in lines).encode()


def read_public_key(path: str | Path) -> PublicKey:
    """Read the file of a public key. Raises SignatureError, also if every user may write it."""
    path = Path(path)
    lines = read_lines(path, "a public key of minisign", _WRITABLE_BY_OTHERS, "chmod o-w")
    data = decode(lines[1]) if len(lines) == 2 and lines[0].startswith(UNTRUSTED) else b""
    if len(data) != len(PLAIN) + KEY_ID_BYTES + KEY_BYTES or data[:2] != PLAIN:
        secret = any("secret key" in line for line in lines[:1])
        hint = "; it looks like the secret key, which belongs on no device" if secret else ""
        raise SignatureError(f"{path}: not a public key of minisign{hint}; give the .pub file of the signer")
    return PublicKey(data[2:10], data[10:])


def parse_signature(content: bytes) -> Signature:
    """Read the content of a ``.minisig`` file. Raises ValueError."""
    lines = content.decode("utf-8").split("\n")
    if len(lines) != 5 or lines[4] or not lines[0].startswith(UNTRUSTED) or not lines[2].startswith(TRUSTED):
        raise ValueError("it has not the four lines of a signature")
    data, of_comment = decode(lines[1]), decode(lines[3])
    if (
        len(data) != 2 + KEY_ID_BYTES + SIGNATURE_BYTES
        or len(of_comment) != SIGNATURE_BYTES
        or data[:2] not in (PLAIN, HASHED)
    ):
        raise ValueError("its lines are not those of a signature")
    comment = lines[2].removeprefix(TRUSTED).removesuffix("\r")
    return Signature(data[:2], data[2:10], data[10:], comment, of_comment)


def check_signature(content: bytes, signature: Signature, key: PublicKey) -> None:
    """Raise ValueError unless a content and the trusted comment were signed with a key."""
    if signature.key_id != key.key_id:
        raise ValueError(f"it was signed with the key {signature.key_name}, not with {key.name}")
    message = hashlib.blake2b(content).digest() if signature.algorithm == HASHED else content
    commented = signature.signature + signature.trusted_comment.encode()
    if not verify(key.key, message, signature.signature) or not verify(
        key.key, commented, signature.of_comment
    ):
        raise ValueError(f"it is not what was signed with the key {key.name}")


def read_lines(path: Path, what: str, forbidden: int, remedy: str) -> list[str]:
    """The lines of a file with a key. Raises SignatureError, also for a mode with ``forbidden`` bits."""
    try:
        with open_regular(path) as file:
            mode, content = os.fstat(file.fileno()).st_mode, file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SignatureError(f"{path}: cannot be read ({error.strerror}), expected {what}") from error
    if len(content) > _MOST_BYTES:
        raise SignatureError(f"{path}: has more than {_MOST_BYTES:,} bytes, expected {what}")
    if mode & forbidden:
        raise SignatureError(
            f"{path}: has the mode {stat.S_IMODE(mode):04o}, so other users can change or read it; "
            f"{remedy} {path}"
        )
    try:
        return content.decode("utf-8").removesuffix("\n").replace("\r", "").split("\n")
    except UnicodeError:
        raise SignatureError(f"{path}: is not text, expected {what}") from None


def key_name(key_id: bytes) -> str:
    """The number of a key, as minisign shows it."""
    return f"{int.from_bytes(key_id, 'little'):016X}"


def encode(data: bytes) -> str:
    """Bytes as a line of base64."""
    return base64.b64encode(data).decode()


def decode(line: str) -> bytes:
    """The bytes of a line of base64; none if it is not base64."""
    try:
        return base64.b64decode(line.removesuffix("\r"), validate=True)
    except (ValueError, binascii.Error):
        return b""
