"""``multires-edge verify``: a bundle against its recorded reference, on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.cli.command import Command
from multires_edge.cli.options import FILE, bundle_argument, json_option, key_option, option
from multires_edge.cli.terminal import Progress, one_line, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multires_edge.format.comparison import Check
    from multires_edge.runtime.bundle import Bundle


@click.command(cls=Command)
@bundle_argument
@option("--checkpoint", FILE, "Repeat the whole proof with this checkpoint (needs the export extra).")
@option(
    "--device-report", FILE, "Read the report that the kit's script wrote on a device, and keep it in BUNDLE."
)
@key_option
@json_option
def verify(
    bundle: Path, checkpoint: Path | None, device_report: Path | None, key: Path | None, as_json: bool
) -> None:
    """Check BUNDLE's files, and its graphs on this machine.

    Each file is compared with its digest, and each graph with the reference that the bundle holds: inputs,
    and the outputs that PyTorch gave for them in float64. PyTorch is not needed. Graphs that the installed
    ONNX Runtime cannot load are named and left out. Exit code: 0 when all checks passed, 1 when one failed,
    2 for a damaged bundle or report, or if nothing here can run the bundle.
    """
    from multires_edge.format.fields import plain
    from multires_edge.runtime.bundle import open_bundle
    from multires_edge.runtime.kit.report import REPORT
    from multires_edge.runtime.kit.stored_reports import read_report, store_report
    from multires_edge.runtime.verify import unchecked_files, verify_bundle

    with Progress() as progress:
        progress("checking digests")
        opened = open_bundle(bundle, key=key)
        report = None if device_report is None else read_report(device_report, opened)
        progress("comparing with the recorded reference")
        unchecked = unchecked_files(opened)
        checks = verify_bundle(opened, unchecked.__setitem__)
        if checkpoint is not None:
            checks += _prove_again(opened, checkpoint, progress)
        if not checks and report is None:
            reasons = "; ".join(dict.fromkeys(unchecked.values()))
            raise BackendError(f"{bundle}: nothing here can run it, so nothing was verified: {reasons}")
    stored = None if report is None else store_report(report, opened)
    exported = opened.parity().passed
    passed = exported and all(check.passed for check in checks) and (report is None or report.passed)
    signature = opened.signature
    if as_json:
        entry = {"bundle": str(bundle), "passed": passed, "passed_at_export": exported}
        entry |= {"signed_by": signature and signature.key_name}
        entry |= {"checks": [plain(check.result()) for check in checks], "not_checked": unchecked}
        print_json(entry if report is None else entry | {"device_report": REPORT.to_json(report)})
    else:
        click.echo(f"{bundle}: all {len(opened.manifest.digests())} files are unchanged")
        if signature is not None:
            click.echo(f"signed with the key {signature.key_name}: {one_line(signature.trusted_comment)}")
        if not exported:
            click.echo("-[x] the parity proof at export failed; see report.html")
        for check in checks:
            click.echo(check.line())
        for reason in dict.fromkeys(unchecked.values()):
            files = [name for name, why in unchecked.items() if why == reason]
            click.echo(f"-[ ] {', '.join(files)}: not checked ({reason})")
        if report is not None:
            click.echo("\n".join(report.lines()))
            click.echo(f"kept as {stored}, and shown in report.html")
        verdict = "verified, except what was not checked" if unchecked else "verified"
        click.echo(verdict if passed else "FAILED")
    if not passed:
        sys.exit(1)


def _prove_again(bundle: Bundle, path: Path, progress: Progress) -> Sequence[Check]:
    from multires_edge.cli.commands.export import require_export_extra

    require_export_extra()
    from multires_edge.export.parity import prove
    from multires_edge.models.checkpoint import read_checkpoint
    from multires_edge.models.loading import build_network

    manifest = bundle.manifest
    if manifest.source.module is not None:
        raise BundleError(
            f"{bundle.path} was exported from your module {manifest.source.module}, and its checkpoint "
            "does not say what it computes; export it again to repeat the proof"
        )
    progress("reading the checkpoint")
    checkpoint = read_checkpoint(path, manifest.source.weights, manifest.model.encoder)
    if checkpoint.sha256 != bundle.manifest.source.sha256:
        raise BundleError(
            f"{bundle.path} was exported from another checkpoint, not from {path}: its source has SHA-256 "
            f"{bundle.manifest.source.sha256[:16]}…, this file {checkpoint.sha256[:16]}…"
        )
    net = build_network(checkpoint, bundle.manifest.model)
    return prove(net, bundle, progress=progress)[0].checks
