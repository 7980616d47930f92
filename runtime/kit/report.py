"""Read device reports, check them against their bundle, store them in it, and show them."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multires_edge.base.errors import BundleError
from multires_edge.base.files import disk_errors, write_file
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.kit.device.report import REPORT, Report

FOLDER = "devices"
PAGE = "index.html"
_DOCUMENT = replace(REPORT, error=BundleError)


@dataclass(frozen=True)
class DeviceReport:
    """A checked report of the kit's script."""

    report: Report

    @property
    def name(self) -> str:
        """The names of the device and of the backend that ran the graphs."""
        return f"{self.report.name}, {self.report.backend['name']}"

    @property
    def file_name(self) -> str:
        """One file per device and backend: a later report replaces the earlier report."""
        return (re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:80] or "device") + ".json"

    @property
    def passed(self) -> bool:
        return self.report.passed

    def to_json(self) -> dict[str, Any]:
        """The JSON object that the device wrote."""
        return _DOCUMENT.to_json(self.report)

    def lines(self) -> list[str]:
        """Lines of text: failed checks, notes and latencies."""
        report = self.report
        lines = [f"device: {report.name} ({', '.join(report.versions())}), {report.started}"]
        lines += [check.line() for check in report.checks if not check.passed]
        if self.passed:
            lines.append(f"-[✓] on the device: all {len(report.checks)} checks passed")
        lines += [f"-[ ] {note}" for note in report.notes]
        return lines + [timing.line() for timing in report.timing]


def read_report(path: Path, bundle: Bundle) -> DeviceReport:
    """Read ``device_report.json``; check that it is complete and of this bundle. Raises BundleError."""
    try:
        report = _DOCUMENT.read(path)
    except FileNotFoundError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    theirs, ours = report.bundle.manifest_sha256, bundle.manifest.to_json()["sha256"]
    if theirs != ours:
        raise BundleError(
            f"{path}: belongs to another bundle: its manifest is {theirs[:16]}…, that of {bundle.path} is "
            f"{ours[:16]}…"
        )
    return DeviceReport(report)


def store_report(report: DeviceReport, bundle: Bundle) -> Path:
    """Store a report in the bundle, and write a page of all its reports. Returns the report's path.

    The manifest does not list reports, because each has its own digest. Raises OutputError.
    """
    folder = bundle.path / FOLDER
    final = folder / report.file_name
    with disk_errors(final):
        folder.mkdir(exist_ok=True)
    content = (json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n").encode()
    write_file(final, content, force=True)
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
  body {{ font: 15px/1.5 system-ui, sans-serif; margin: 0; color: #1b1f24; }} h3 {{ margin: 1rem 0 0; }}
  table {{ border-collapse: collapse; width: 100%; }}
  th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #d8dee4; }}
  td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums; }}
  .pass {{ color: #116329; }} .fail {{ color: #b00020; }}
</style></head><body>
{}
</body></html>
"""
_TIMING_COLUMNS = ("p50_us", "p99_us", "max_us")


def render(reports: list[DeviceReport], damaged: Sequence[str] = ()) -> str:
    """The page ``devices/index.html``, which report.html embeds. ``damaged`` has error messages."""
    parts = [_section(report) for report in reports]
    parts += [f'<p class="fail">{html.escape(text)}</p>' for text in damaged]
    return _PAGE.format("\n".join(parts))


def _section(device_report: DeviceReport) -> str:
    report, text = device_report.report, html.escape
    device, count = report.device, len(report.checks)
    failed = [check for check in report.checks if not check.passed]
    verdict = f"✓ all {count} checks passed" if report.passed else f"✗ {len(failed)} of {count} checks FAILED"
    about = [
        *report.versions(),
        f"power mode {device.power_mode or 'not found'}",
        *(
            f"{name} {clock.current} of {clock.max}{' (locked)' if clock.locked else ''}"
            for name, clock in (device.gpu_clocks or {}).items()
        ),
    ]
    parts = [
        f"<h3>{text(device_report.name)}</h3>",
        f'<p class="{"pass" if report.passed else "fail"}">{verdict}, {text(report.started)}</p>',
        f"<p>{text('; '.join(about))}</p>",
    ]
    parts += [f'<p class="fail">{text(check.line())}</p>' for check in failed]
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
