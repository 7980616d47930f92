"""Read device reports, check them against their bundle, store them in it, and show them."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from multires_edge.base.errors import BundleError
from multires_edge.base.files import disk_errors, write_file
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.kit.device.checks import line
from multires_edge.runtime.kit.device.command import REPORT_FORMAT, REPORT_VERSION
from multires_edge.runtime.kit.device.files import digest_of

FOLDER = "devices"
PAGE = "index.html"


@dataclass(frozen=True)
class DeviceReport:
    """A checked report of the kit's script. ``entry`` is the JSON object that the device wrote."""

    entry: dict[str, Any]

    @property
    def name(self) -> str:
        """The names of the device and of the backend that ran the graphs."""
        return f"{self.entry['name']}, {self.entry['backend']['name']}"

    @property
    def file_name(self) -> str:
        """One file per device and backend: a later report replaces the earlier report."""
        return (re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:80] or "device") + ".json"

    @property
    def passed(self) -> bool:
        return bool(self.entry["passed"])

    def lines(self) -> list[str]:
        """Lines of text: failed checks, notes and latencies."""
        checks, backend = self.entry["checks"], self.entry["backend"]
        failed = [check for check in checks if not check["passed"]]
        versions = [f"{key} {value}" for key, value in backend.items() if key not in ("name", "engines")]
        lines = [f"device: {self.entry['name']} ({', '.join(versions)}), {self.entry['started']}"]
        lines += [line(check) for check in failed]
        if self.passed:
            lines.append(f"-[✓] on the device: all {len(checks)} checks passed")
        lines += [f"-[ ] {note}" for note in self.entry["notes"]]
        for timing in self.entry["timing"]:
            lines.append(
                "    {precision} {graph} x {streams}, {how}: p50 {p50_us:,.1f} us, p99 {p99_us:,.1f} us, "
                "max {max_us:,.1f} us".format(**timing)
            )
        return lines


def read_report(path: Path, bundle: Bundle) -> DeviceReport:
    """Read ``device_report.json``; check that it is complete and of this bundle. Raises BundleError."""
    try:
        entry = json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: cannot be read ({error})") from error
    if not isinstance(entry, dict) or entry.get("format") != REPORT_FORMAT:
        raise BundleError(f"{path}: is not a device report, its format is not {REPORT_FORMAT!r}")
    if entry.get("version") != REPORT_VERSION:
        raise BundleError(
            f"{path}: has version {entry.get('version')!r}, this release reads {REPORT_VERSION}: make the "
            "kit again with this release"
        )
    if entry.get("sha256") != digest_of(entry):
        raise BundleError(f"{path}: changed since the device wrote it (its SHA-256 differs); copy it again")
    try:
        report = DeviceReport(entry)
        theirs, ours = str(entry["bundle"]["manifest_sha256"]), bundle.manifest.to_json()["sha256"]
        report.lines(), render([report])
        made = [check["passed"] is True for check in entry["checks"]]
        if entry["passed"] is not (bool(made) and all(made)):
            raise ValueError("'passed' contradicts its checks")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise BundleError(f"{path}: is incomplete or misshapen ({error!r})") from error
    if theirs != ours:
        raise BundleError(
            f"{path}: belongs to another bundle: its manifest is {theirs[:16]}…, that of {bundle.path} is "
            f"{ours[:16]}…"
        )
    return report


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and infinities: JSON has no such numbers."""
    raise ValueError(f"{name} is not valid JSON")


def store_report(report: DeviceReport, bundle: Bundle) -> Path:
    """Store a report in the bundle, and write a page of all its reports. Returns the report's path.

    The manifest does not list reports, because each has its own digest. Raises OutputError.
    """
    folder = bundle.path / FOLDER
    final = folder / report.file_name
    with disk_errors(final):
        folder.mkdir(exist_ok=True)
    content = (json.dumps(report.entry, indent=2, ensure_ascii=False) + "\n").encode()
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


def _section(report: DeviceReport) -> str:
    entry, text = report.entry, html.escape
    device = entry["device"]
    failed = [check for check in entry["checks"] if not check["passed"]]
    count = len(entry["checks"])
    verdict = f"✓ all {count} checks passed" if report.passed else f"✗ {len(failed)} of {count} checks FAILED"
    about = [
        *(f"{key} {value}" for key, value in entry["backend"].items() if key not in ("name", "engines")),
        f"power mode {device['power_mode']}" if "power_mode" in device else "power mode not found",
        *(
            f"{name} {clock['current']} of {clock['max']}{' (locked)' if clock['locked'] else ''}"
            for name, clock in (device.get("gpu_clocks") or {}).items()
        ),
    ]
    parts = [
        f"<h3>{text(report.name)}</h3>",
        f'<p class="{"pass" if report.passed else "fail"}">{verdict}, {text(entry["started"])}</p>',
        f"<p>{text('; '.join(about))}</p>",
    ]
    parts += [f'<p class="fail">{text(line(check))}</p>' for check in failed]
    if entry["timing"]:
        head = "".join(f'<th class="n">{column.removesuffix("_us")}, µs</th>' for column in _TIMING_COLUMNS)
        parts.append(f'<table><tr><th>graph</th><th class="n">streams</th><th></th>{head}</tr>')
        for timing in entry["timing"]:
            figures = "".join(f'<td class="n">{timing[column]:,.1f}</td>' for column in _TIMING_COLUMNS)
            parts.append(
                f"<tr><td>{text(timing['precision'])} {text(timing['graph'])}</td>"
                f'<td class="n">{timing["streams"]:d}</td><td>{text(timing["how"])}</td>{figures}</tr>'
            )
        parts.append("</table>")
    return "\n".join(parts)
