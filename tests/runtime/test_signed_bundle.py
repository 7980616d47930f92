"""Signed bundles: what was signed is opened, and everything else is refused in one line."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multires_edge.base.errors import BundleError, MultiresError, SignatureError
from multires_edge.cli.main import main
from multires_edge.export.signing import read_secret_key, sign_bundle
from multires_edge.format.signed_files import LIST_FILE, SIGNATURE_FILE
from multires_edge.runtime import open_bundle
from tests.minisign_keys import KeyPair, encrypt, make_keys

with_minisign = pytest.mark.skipif(shutil.which("minisign") is None, reason="needs minisign")


@pytest.fixture
def keys(tmp_path: Path) -> KeyPair:
    return make_keys(tmp_path)


@pytest.fixture
def signed(bundle: Path, keys: KeyPair) -> Path:
    keys.sign(bundle, "release 7")
    return bundle


def run(*arguments: object, **options: Any) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], **options)
    return result.exit_code, result.output


def test_the_signature_is_checked_and_shown(signed: Path, keys: KeyPair) -> None:
    opened = open_bundle(signed, key=keys.public)
    assert opened.signature is not None and opened.signature.trusted_comment == "release 7"
    assert open_bundle(signed).signature is None
    code, output = run("verify", signed, "--key", keys.public)
    assert code == 0 and "signed with the key 0000000000000001: release 7" in output


def test_signing_again_with_the_same_comment_gives_the_same_bytes(signed: Path, keys: KeyPair) -> None:
    before = (signed / SIGNATURE_FILE).read_bytes()
    keys.sign(signed, "release 7")
    assert (signed / SIGNATURE_FILE).read_bytes() == before


CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a changed graph": ("step.onnx: changed since it was signed", lambda b: flip(b / "step.onnx")),
    "a changed manifest": ("manifest.json: changed", lambda b: flip(b / "manifest.json")),
    "an added file": ("x.engine was added after", lambda b: add(b / "engines" / "x.engine")),
    "a hidden file": (".x was added after", lambda b: add(b / ".x")),
    "a removed file": ("report.html is signed, but is missing", lambda b: (b / "report.html").unlink()),
    "a link to the same file": ("report.html is a link", lambda b: link(b / "report.html")),
    "a linked folder": ("more is a link", lambda b: (b / "more").symlink_to(b.parent)),
    "a pipe": ("pipe is a link or no regular file", lambda b: pipe(b / "pipe")),
    "no signature": (
        "it has no files.sha256.minisig",
        lambda b: (b / SIGNATURE_FILE).unlink(),
    ),
    "no list": ("it has no files.sha256;", lambda b: (b / LIST_FILE).unlink()),
    "a huge signature": ("expected at most", lambda b: os.truncate(b / SIGNATURE_FILE, 1 << 40)),
    "a huge list": ("expected at most", lambda b: os.truncate(b / LIST_FILE, 1 << 40)),
    "a huge added file": ("y was added", lambda b: add(b / "y", 1 << 40)),
    "a huge file": ("cannot be read|changed since", lambda b: os.truncate(b / "parity.json", 1 << 27)),
    "a signature that is a pipe": (
        "not a regular file",
        lambda b: pipe(b / SIGNATURE_FILE),
    ),
    "an engine in place of the list": (
        "not what was signed",
        lambda b: (b / LIST_FILE).write_bytes(b"\xff" * 100),
    ),
    "another comment": (
        "not what was signed",
        lambda b: replace_in(b / SIGNATURE_FILE, b"release 7", b"release 8"),
    ),
}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def add(path: Path, size: int = 3) -> None:
    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.truncate(path, size)


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def link(path: Path) -> None:
    copy = path.rename(path.parent.parent / "outside")
    path.symlink_to(copy)


def replace_in(path: Path, old: bytes, new: bytes) -> None:
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_refused(change: str, signed: Path, keys: KeyPair) -> None:
    message, apply = CHANGES[change]
    apply(signed)
    with pytest.raises(SignatureError, match=message) as caught:
        open_bundle(signed, key=keys.public)
    assert "\n" not in str(caught.value)


def test_the_signature_is_checked_before_anything_is_read(signed: Path, keys: KeyPair) -> None:
    (signed / "manifest.json").write_text("[" * 100_000)
    for name in ("step.onnx", "full.onnx", "golden.npz"):
        (signed / name).unlink()
    flip(signed / LIST_FILE)
    with pytest.raises(SignatureError, match="not what was signed"):
        open_bundle(signed, key=keys.public)


def test_another_key(signed: Path, tmp_path: Path, keys: KeyPair) -> None:
    other = make_keys(tmp_path, 2)
    with pytest.raises(SignatureError, match=r"with the key 0{15}1, not with 0{15}2"):
        open_bundle(signed, key=other.public)
    # A key with the number of the right one.
    data = bytearray(base64.b64decode(other.public.read_text().split("\n")[1]))
    data[2:10] = (1).to_bytes(8, "little")
    other.public.write_text(f"untrusted comment: \n{base64.b64encode(data).decode()}\n")
    with pytest.raises(SignatureError, match="not what was signed with the key"):
        open_bundle(signed, key=other.public)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_change_of_the_signature(signed: Path, keys: KeyPair, data: st.DataObject) -> None:
    """A cut, and a changed bit: only what is in the untrusted comment, and base64's spare bits, are free."""
    path, content = signed / SIGNATURE_FILE, (signed / SIGNATURE_FILE).read_bytes()
    start = content.index(b"\n") + 1
    where = data.draw(st.integers(start, len(content) - 1))
    changed = bytearray(content)
    changed[where] ^= 1 << data.draw(st.integers(0, 7))
    try:
        for damaged in (content[:where], bytes(changed)):
            path.write_bytes(damaged)
            with pytest.raises(SignatureError) as caught:
                open_bundle(signed, key=keys.public)
            assert "\n" not in str(caught.value)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a public key"),
        (b"\xff\xfe", "is not text"),
        (b"untrusted comment: \nAAAA\n", "not a public key"),
        (b"untrusted comment: \n@@@@\n", "not a public key"),
        (b"x" * 100_000, "has more than 16,384 bytes"),
    ],
)
def test_public_keys_that_are_none(content: bytes, message: str, signed: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pub").write_bytes(content)
    with pytest.raises(SignatureError, match=message):
        open_bundle(signed, key=tmp_path / "bad.pub")


def test_key_files_that_others_can_use(signed: Path, keys: KeyPair, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="looks like the secret key"):
        open_bundle(signed, key=keys.secret)
    keys.secret.chmod(0o640)
    with pytest.raises(SignatureError, match=r"mode 0640.*chmod 600"):
        read_secret_key(keys.secret, str)
    keys.public.chmod(0o666)
    with pytest.raises(SignatureError, match=r"mode 0666.*chmod o-w"):
        open_bundle(signed, key=keys.public)
    with pytest.raises(SignatureError, match=r"cannot be read \(No such file"):
        open_bundle(signed, key=tmp_path / "none")
    with pytest.raises(SignatureError, match="not a regular file"):
        open_bundle(signed, key=tmp_path)


def test_signing_refuses(bundle: Path, keys: KeyPair) -> None:
    data = keys.secret.read_text()
    for damaged in ("", data[:100], data.replace("A", "B", 1)):
        keys.secret.write_text(damaged)
        with pytest.raises(SignatureError):
            read_secret_key(keys.secret, str)
    keys.secret.write_text(data)
    (bundle / "a\nb").touch()
    with pytest.raises(SignatureError, match="not printed"):
        keys.sign(bundle)
    (bundle / "a\nb").unlink()
    with pytest.raises(MultiresError, match="control characters"):
        keys.sign(bundle, "a\nb")
    flip(bundle / "step.onnx")
    with pytest.raises(BundleError, match="changed since the bundle was written"):
        keys.sign(bundle)
    assert not (bundle / SIGNATURE_FILE).exists()


def test_the_commands(bundle: Path, keys: KeyPair) -> None:
    code, output = run("sign", bundle, "--key", keys.secret, env={"SOURCE_DATE_EPOCH": "1700000000"})
    assert code == 0 and "signed with the key 0000000000000001" in output
    assert "timestamp:1700000000" in (bundle / SIGNATURE_FILE).read_text()
    (bundle / "new").touch()
    for command in (["verify", bundle], ["stream", bundle, "-"]):
        code, output = run(*command, env={"MULTIRES_EDGE_KEY": str(keys.public)})
        assert code == 2 and re.fullmatch(r"error: .*new was added after signing.*\n", output)


@with_minisign
class TestBesideMinisign:
    def test_minisign_checks_what_is_signed_here(self, signed: Path, keys: KeyPair) -> None:
        check = ["minisign", "-V", "-p", str(keys.public), "-m", LIST_FILE]
        good = subprocess.run(check, cwd=signed, capture_output=True, text=True, check=True)
        assert "release 7" in good.stdout
        digests = ["sha256sum", "--strict", "--quiet", "-c", LIST_FILE]
        subprocess.run(digests, cwd=signed, check=True)
        flip(signed / LIST_FILE)
        assert subprocess.run(check, cwd=signed, capture_output=True, check=False).returncode == 1

    @pytest.mark.parametrize("option", [[], ["-l"]])
    def test_what_minisign_signs_is_accepted(self, option: list[str], signed: Path, keys: KeyPair) -> None:
        (signed / SIGNATURE_FILE).unlink()
        sign = [
            "minisign",
            "-S",
            *option,
            "-s",
            str(keys.secret),
            "-m",
            str(signed / LIST_FILE),
            "-t",
            "by minisign",
        ]
        subprocess.run(sign, capture_output=True, check=True)
        opened = open_bundle(signed, key=keys.public)
        assert opened.signature is not None and opened.signature.trusted_comment == "by minisign"

    @pytest.mark.parametrize(
        ("operations", "memory"),
        [(1 << 20, 1 << 24), (1 << 20, 1 << 26), (1000, 1 << 23), (1 << 19, 1 << 23)],
    )
    def test_keys_with_a_password(self, operations: int, memory: int, bundle: Path, keys: KeyPair) -> None:
        encrypt(keys.secret, "pass word", operations, memory)
        (bundle / LIST_FILE).write_text("x")
        sign = ["minisign", "-S", "-s", str(keys.secret), "-m", str(bundle / LIST_FILE)]
        subprocess.run(sign, input="pass word\n", text=True, capture_output=True, check=True)
        with pytest.raises(SignatureError, match="password is wrong"):
            read_secret_key(keys.secret, lambda: "other")
        code, output = run("sign", bundle, "--key", keys.secret, input="pass word\n")
        assert code == 0, output
        open_bundle(bundle, key=keys.public)

    @pytest.mark.slow
    def test_the_keys_that_minisign_makes(self, bundle: Path, tmp_path: Path) -> None:
        secret, public = tmp_path / "own.key", tmp_path / "own.pub"
        make = ["minisign", "-G", "-f", "-s", str(secret), "-p", str(public)]
        subprocess.run(make, input="pass word\npass word\n", text=True, capture_output=True, check=True)
        sign_bundle(bundle, read_secret_key(secret, lambda: "pass word"))
        open_bundle(bundle, key=public)


def test_a_key_that_needs_too_much_memory(keys: KeyPair) -> None:
    encrypt(keys.secret, "", 1 << 20, 1 << 24)
    comment, line, _ = keys.secret.read_text().split("\n")
    data = bytearray(base64.b64decode(line))
    data[38:54] = b"\xff" * 16
    keys.secret.write_text(f"{comment}\n{base64.b64encode(data).decode()}\n")
    with pytest.raises(SignatureError, match="make another key"):
        read_secret_key(keys.secret, str)
