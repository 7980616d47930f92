"""``multires-edge evaluate --ecg``: measures decisions, and prints the figures of docs/disclosure.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from multires_edge.base.errors import DataError, InputError
from multires_edge.cli.options import pick
from multires_edge.cli.terminal import Progress, interval, print_json, print_table
from multires_edge.format.fields import plain
from multires_edge.runtime.bundle import Bundle, open_bundle
from multires_edge.runtime.ecg.leads import LeadMap, check_applied
from multires_edge.runtime.ecg.settings import StreamOptions
from multires_edge.runtime.ecg.streams import preprocessing_of
from multires_edge.runtime.ecg.thresholds import Alarms, Threshold
from multires_edge.runtime.evaluation.decision_accuracy import (
    ClassFigures,
    Delays,
    Performance,
    assess,
    choose_thresholds,
)
from multires_edge.runtime.evaluation.diagnostic import Rate
from multires_edge.runtime.evaluation.recordings import LabelledRecordings, load_recordings


def evaluate_ecg(bundle: Path, data_path: Path, given: dict[str, Any], *, as_json: bool) -> None:
    """Measure and print. ``given`` are the options of `evaluate`. Raises MultiresError."""
    thresholds_from: Path | None = given["thresholds_from"]
    if thresholds_from is not None and data_path.resolve() == thresholds_from.resolve():
        raise InputError(
            f"--thresholds-from is also --data, {data_path}: thresholds chosen on the same recordings make "
            "the figures too good; give other recordings"
        )
    with Progress() as progress:
        progress("reading")
        opened = open_bundle(bundle)
        options = pick(StreamOptions, given | {"thresholds": ()})
        data = load_recordings(data_path, opened, options.rename)
        _check_renames(opened, data, options)
        limits, how = _thresholds(opened, given["thresholds"], thresholds_from, options)
        names = list(given["precisions"] or opened.manifest.graphs["step"])
        result = assess(opened, data, limits, options, precisions=names, progress=progress)
    if as_json:
        settings = {"bundle": str(bundle), "data": str(data_path), "thresholds_from": how}
        settings |= {key: given[key] for key in ("pool", "every", "allow_missing", "rename", "backend")}
        print_json(settings | {"precision": names[0]} | plain(result))
    else:
        _print(result, data, how, names[0])


def _check_renames(bundle: Bundle, data: LabelledRecordings, options: StreamOptions) -> None:
    """Raise DataError for a lead that no recording has."""
    if options.rename:
        leads: Any = {"allow_missing": options.allow_missing, "rename": options.rename}
        maps = []
        for signal in (each.signal for each in data.recordings):
            try:
                maps.append(LeadMap(signal, preprocessing_of(bundle), **leads))
            except (DataError, InputError) as error:
                raise type(error)(f"{signal.name}: {error}") from error
        check_applied(options.rename, maps)


def _thresholds(
    bundle: Bundle, given: Sequence[str], chosen_on: Path | None, options: StreamOptions
) -> tuple[dict[str, float], str]:
    """The thresholds by label, and how they were chosen."""
    labels = bundle.class_names
    parsed = [Threshold.parse(text) for text in given]
    Alarms(parsed, labels)  # refuses unknown labels
    if chosen_on is not None:
        limits = choose_thresholds(bundle, load_recordings(chosen_on, bundle, options.rename), options)
        how = f"the greatest sensitivity + specificity on {chosen_on}"
    else:
        limits, how = dict.fromkeys(labels, 0.5), "0.5 unless given"
    return limits | {threshold.label: threshold.on for threshold in parsed}, how


def _print(result: Performance, data: LabelledRecordings, how: str, precision: str) -> None:
    click.echo(f"{result.recordings} recordings of {data.path}, {precision}; thresholds: {how}")
    rows = [["", "threshold", "with it", "sensitivity", "specificity", "predictive value", "AUROC"]]
    for label, figures in result.by_class.items():
        rows.append(
            [
                label,
                f"{figures.threshold:.3f}",
                str(figures.sensitivity.total),
                _rate(figures.sensitivity),
                _rate(figures.specificity),
                _rate(figures.positive_predictive_value),
                _area(figures),
            ]
        )
    print_table(rows, frozenset(range(1, 7)))
    click.echo(f"from the start: the first decision after {result.first_decision:.2f} s, all steady after")
    print_table(
        [["", "median", "95 %", "came"], ["", *_delays(result.steady_decision)]], frozenset((1, 2, 3))
    )
    click.echo("after a change to another recording without a restart: time until right")
    head = ["", "onset, median", "95 %", "came", "offset, median", "95 %", "came"]
    print_table(
        [head, *([k, *_delays(f.onset_delay), *_delays(f.offset_delay)] for k, f in result.by_class.items())],
        frozenset(range(1, 7)),
    )
    if result.agreement:
        click.echo(f"agreement with {precision}")
        rows = [["", "decisions", "mean difference of p", "largest"]]
        for name, each in result.agreement.items():
            off = [f"{each.mean_difference:.5f}", f"{each.largest_difference:.5f}"]
            rows.append([name, _rate(each.decisions, ".2%"), *off])
        print_table(rows, frozenset((1, 2, 3)))
    click.echo(result.notice)


def _area(figures: ClassFigures) -> str:
    if figures.auroc is None:
        return ""
    return f"{figures.auroc:.4f} {interval(figures.auroc_interval)}".rstrip()


def _rate(rate: Rate, form: str = ".1%") -> str:
    return "none" if rate.value is None else f"{rate.value:{form}} {interval(rate.interval, form)}"


def _delays(delays: Delays) -> list[str]:
    seconds = ["" if each is None else f"{each:.2f} s" for each in (delays.median, delays.p95)]
    return [*seconds, f"{delays.count} of {delays.total}"]
