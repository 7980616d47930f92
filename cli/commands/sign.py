"""``multires-edge sign``: a signature of a bundle that minisign's key makes and minisign can check."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from multires_edge.cli.command import Command
from multires_edge.cli.options import FILE, bundle_argument, json_option, option
from multires_edge.cli.terminal import counted, print_json


@click.command(cls=Command)
@bundle_argument
@option("--key", FILE, "Secret key of minisign; `minisign -G` makes a pair of keys.", required=True)
@option("--comment", "TEXT", "Text that is signed too, and shown by verify  [default: the time]")
@json_option
def sign(bundle: Path, key: Path, comment: str | None, as_json: bool) -> None:
    """Sign all files of BUNDLE.

    BUNDLE gets files.sha256, the digests of all its files, and files.sha256.minisig, the signature. Sign it
    after its engines were built: `--key` of verify, stream, monitor and deploy refuses a file that was added
    or changed later. The password of the key is asked for, or read from standard input.
    """
    from multires_edge.export.signing import read_secret_key, sign_bundle
    from multires_edge.format.minisign import key_name
    from multires_edge.format.signed_files import SIGNATURE_FILE

    secret = read_secret_key(key, _ask_password)
    count = sign_bundle(bundle, secret, comment)
    name = key_name(secret.key_id)
    if as_json:
        print_json({"bundle": str(bundle), "key": name, "files": count})
        return
    click.echo(f"{bundle / SIGNATURE_FILE}: {counted(count, 'file')}, signed with the key {name}")


def _ask_password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password of the key", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")
