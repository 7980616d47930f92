"""``card.md``: what a network is, what it was measured to do and where it must not be used, for people.

It is the README of a bundle: one file of Markdown, made of the card, the manifest, the proof and the figures.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from multires_edge.base.names import printable
from multires_edge.export.picture import duration
from multires_edge.export.quantization import Quantization
from multires_edge.export.report import REPORT_FILE, GraphStatistics, Proved, write_report
from multires_edge.format.card import About
from multires_edge.format.comparison import Check
from multires_edge.format.figures import CARD_FILE, EVALUATION, EVALUATION_FILE, Figure, Figures
from multires_edge.format.manifest import Manifest
from multires_edge.format.module import ModuleConfig

_LONGEST = 2000  # characters of one text; the manifest has all of it
# What Markdown and its dialects would take for more than text. An underscore inside a word is text.
_MARKUP = re.compile(r"[\\`*\[\]<>|~$&#]|(?<![^\W_])_|_(?![^\W_])")
_METRICS = {
    "accuracy": "accuracy",
    "auroc_macro": "macro AUROC",
    "bits_per_dimension": "bits per dimension",
}


def escaped(value: Any) -> str:
    """A value as one line of Markdown without markup, cut after 2,000 characters."""
    text = " ".join(str(value).split())
    text = printable(text) if text else ""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 1]}…"
    return _MARKUP.sub(lambda match: f"\\{match[0]}", text)


def write_pages(
    folder: Path,
    manifest: Manifest,
    proof: Proved,
    statistics: dict[str, GraphStatistics],
    quantization: Quantization | None,
    figures: Figures | None,
) -> list[str]:
    """Write what a bundle has for people: the report, and the model card with its figures.

    Returns the names of the files.
    """
    write_report(folder / REPORT_FILE, manifest, proof, statistics, quantization)
    write_model_card(folder / CARD_FILE, manifest, proof, figures)
    if figures is None:
        return [REPORT_FILE, CARD_FILE]
    (folder / EVALUATION_FILE).write_bytes(EVALUATION.to_bytes(figures))
    return [REPORT_FILE, CARD_FILE, EVALUATION_FILE]


def write_model_card(path: Path, manifest: Manifest, proof: Proved, figures: Figures | None = None) -> None:
    """Write the model card of a bundle. ``figures`` are those that were measured on labelled data."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("multires_edge.export", ""),
        autoescape=False,  # it is for HTML; every value is escaped for Markdown instead
        finalize=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    preprocessing = manifest.preprocessing
    rate = preprocessing.sampling_rate if preprocessing else None
    worst: dict[str, Check] = {}
    for check in proof.checks:
        if check.precision not in worst or check.error > worst[check.precision].error:
            worst[check.precision] = check
    about = manifest.about or About()
    text = environment.get_template("card.md.j2").render(
        manifest=manifest,
        about=about,
        title=(about.name or "").strip() or manifest.source.file,
        descriptions=about.label_descriptions or {},
        preprocessing=preprocessing,
        rows=preprocessing.rows() if preprocessing else [],
        config=None if isinstance(manifest.network, ModuleConfig) else manifest.network,
        module=manifest.network if isinstance(manifest.network, ModuleConfig) else None,
        step=manifest.graphs["step"],
        inputs=manifest.graph("full", "fp32").inputs,
        proof=proof,
        parity=proof.parity(),
        worst=worst,
        duration=lambda steps: duration(steps, rate),
        pooled=_pooled(manifest, rate),
        figures=figures,
        measured=next(iter(figures.precisions)) if figures else None,
        metric=_METRICS[figures.metric] if figures else None,
        command=_command(figures) if figures else None,
        same_files={} if figures is None else _same_files(manifest, figures),
        versions=lambda tools: ", ".join(f"{name} {version}" for name, version in tools.items()),
        shown=_shown,
        stated=_stated,
    )
    path.write_text(text, encoding="utf-8")


def _stated(text: str | None) -> str:
    return text if text and text.strip() else "not stated in the card"


def _shown(figure: Figure | None, form: str = ".4f") -> str:
    """A value with its interval."""
    if figure is None:
        return ""
    text = f"{figure.value:{form}}"
    if figure.interval is not None:
        low, high = (f"{each:{form}}" for each in figure.interval)
        text += f" ({low} to {high})"
    return text


def _pooled(manifest: Manifest, rate: float | None) -> str:
    pooling = manifest.pooling
    if pooling is None:
        return "at every step, from the steps before it"
    if pooling.window is None:
        return f"at every step, from all steps so far ({pooling})"
    return f"at every step, from the last {duration(pooling.window, rate)} ({pooling})"


def _command(figures: Figures) -> str:
    """The command that measures the figures again."""
    words = ["multires-edge evaluate BUNDLE --data", figures.data.file]
    words += ["--precision", ",".join(figures.precisions)]
    words += ["--graph step", f"--state {figures.state}"] if figures.graph == "step" else []
    words += [f"--backend {figures.backend}"] if figures.backend != "auto" else []
    words += [f"--bootstrap {figures.resamples}"] if figures.resamples else []
    words += ["--field-conditions"] if figures.conditions else []
    return " ".join(words)


def _same_files(manifest: Manifest, figures: Figures) -> dict[str, bool]:
    """Whether the graph of each precision in the bundle is the one that was measured, to the byte."""
    digests = manifest.digests().values()
    return {name: each.graph.sha256 in digests for name, each in figures.precisions.items()}
