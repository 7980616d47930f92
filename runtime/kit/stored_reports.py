"""Read device reports, check them against their bundle, store them in it, and show them."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path

from multires_edge.base import palette
from multires_edge.base.errors import BundleError
from multires_edge.base.files import disk_errors, write_file
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.kit.report import REPORT, Report

FOLDER = "devices"
PAGE = "index.html"


def read_report(path: Path, bundle: Bundle) -> Report:
    """Read ``device_report.json``; check that it is complete and of this bundle. Raises BundleError."""
    try:
        report = REPORT.read(path)
    except FileNotFoundError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    theirs, ours = report.bundle.manifest_sha256, bundle.manifest.to_json()["sha256"]
    if theirs != ours:
        raise BundleError(
            f"{path}: belongs to another bundle: its manifest is {theirs[:16]}…, that of {bundle.path} is "
            f"{ours[:16]}…"
        )
    return report


def store_report(report: Report, bundle: Bundle) -> Path:
    """Store a report in the bundle, and write a page of all its reports. Returns the report's path.

    A later report of the same device and backend replaces the earlier one. The manifest does not list
    reports, because each has its own digest. Raises OutputError.
    """
    folder = bundle.path / FOLDER
    name = re.sub(r"[^a-z0-9]+", "-", report.title.lower()).strip("-")[:80]
    final = folder / f"{name or 'device'}.json"
    with disk_errors(final):
        folder.mkdir(exist_ok=True)
    write_file(final, REPORT.to_bytes(report), force=True)
    reports, damaged = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            reports.append(read_report(path, bundle))
        except BundleError as error:  # of another device, which must make its report again
            damaged.append(str(error))
    write_file(folder / PAGE, render(reports, damaged).encode(), force=True)
    return final


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Devices</title>
<style>
  {palette}
  body {{ font: 15px/1.5 system-ui, sans-serif; margin: 0; color: var(--text); background: var(--panel); }}
  h3 {{ margin: 1rem 0 0; }} table {{ border-collapse: collapse; width: 100%; }}
  th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--edge); }}
  td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums; }}
  .pass {{ color: var(--good); }} .fail {{ color: var(--bad); }}
</style></head><body>
{body}
</body></html>
"""
_TIMING_COLUMNS = ("p50_us", "p99_us", "max_us")


def render(reports: Sequence[Report], damaged: Sequence[str] = ()) -> str:
    """The page ``devices/index.html``, which report.html embeds. ``damaged`` has error messages."""
    parts = [_section(report) for report in reports]
    parts += [f'<p class="fail">{html.escape(text)}</p>' for text in damaged]
    return _PAGE.format(palette=palette.css(), body="\n".join(parts))


def _section(report: Report) -> str:
    text = html.escape
    parts = [
        f"<h3>{text(report.title)}</h3>",
        f'<p class="{"pass" if report.passed else "fail"}">{"✓" if report.passed else "✗"} '
        f"{text(report.verdict)}, {text(report.started)}</p>",
        f"<p>{text('; '.join(report.facts()))}</p>",
    ]
    parts += [f'<p class="fail">{text(check.line())}</p>' for check in report.failed]
    if report.timing:
        head = "".join(f'<th class="n">{column.removesuffix("_us")}, µs</th>' for column in _TIMING_COLUMNS)
        parts.append(f'<table><tr><th>graph</th><th class="n">streams</th><th></th>{head}</tr>')
        for timing in report.timing:
            figures = "".join(
                f'<td class="n">{getattr(timing, column):,.1f}</td>' for column in _TIMING_COLUMNS
            )
            parts.append(
                f"<tr><td>{text(timing.precision)} {text(timing.graph)}</td>"
                f'<td class="n">{timing.streams:d}</td><td>{text(timing.how)}</td>{figures}</tr>'
            )
        parts.append("</table>")
    return "\n".join(parts)
