"""``multires-edge evaluate``: the accuracy of a bundle on data."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from multires_edge.base.errors import InputError
from multires_edge.cli.command import Command
from multires_edge.cli.options import (
    AT_LEAST_1,
    PRECISION_LIST,
    backend_option,
    bundle_argument,
    flag,
    json_option,
    lead_options,
    option,
    pick,
    window_option,
)
from multires_edge.cli.paths import FilePath
from multires_edge.cli.terminal import Progress, counted, interval, print_figures, print_json, print_table

if TYPE_CHECKING:
    from multires_edge.format.figures import ConditionFigures
    from multires_edge.runtime.evaluation.evaluate import Evaluation

_NAMES = {
    "bits_per_dimension": "bits per dimension",
    "accuracy": "accuracy",
    "auroc_macro": "macro AUROC",
}
# The parameters that only one of the two kinds of evaluation has.
_NOT_ECG = ("graph", "state", "resamples", "limit", "batch", "threads", "window", "conditions")
_ONLY_ECG = ("thresholds_from", "thresholds", "pool", "every")


@click.command(cls=Command)
@bundle_argument
@option(
    "--data data_path",
    FilePath("PATH"),
    "An .npz (x, x_uv, x_u8 or tokens, and labels for classification), or a folder of recordings and a "
    "labels.csv.",
    required=True,
)
@option(
    "--graph",
    click.Choice(["full", "step"]),
    "Run whole sequences, or stream each of them step by step.",
    default="full",
)
@backend_option
@option(
    "--precision precisions",
    PRECISION_LIST,
    "Precisions to measure, separated by commas; each is compared with the first.",
    default="fp32",
)
@option(
    "--state",
    click.Choice(["reset", "carried"]),
    "Whether a stream starts over at every record, or keeps its state.",
    default="reset",
)
@option(
    "--bootstrap resamples",
    click.IntRange(1, 100_000),
    "Resample the records N times, for 95 % intervals.",
    metavar="N",
)
@flag(
    "--field-conditions conditions",
    "Also measure recordings with offsets, wander, motion, noise, lost leads and the like, in the first "
    "precision.",
)
@option("--limit", AT_LEAST_1, "Only the first N records.")
@option(
    "--batch", AT_LEAST_1, "Records per call, or streams with --state carried  [default: 16, or 1 stream]"
)
@option("--threads", AT_LEAST_1, "Threads of the backend; the native engine gives each some of the records.")
@json_option
@flag("--ecg", "Measure decisions from electrodes; see docs/disclosure.md.")
@option(
    "--thresholds-from",
    FilePath("DATA"),
    "With --ecg: choose the threshold of each class on these other data  [default: 0.5]",
)
@option("--threshold thresholds", "LABEL=P", "With --ecg: a class's threshold.", multiple=True)
@option("--pool", "POOL", "With --ecg: as in stream.")
@option("--every", "TIME", "With --ecg: as in stream.", default="0.5s")
@window_option
@lead_options
def evaluate(bundle: Path, data_path: Path, ecg: bool, as_json: bool, **given: Any) -> None:
    """Measure BUNDLE's accuracy on data.

    Autoregressive bundles: bits per dimension of the images. Classification: accuracy for labels (n,),
    macro AUROC for labels (n, classes) of 0 and 1. Further precisions are compared with the first: the
    difference of the metric, and the sum of |logits - first logits| divided by the sum of |first logits|.
    --json writes the figures as `multires-export --evaluation` reads them for the model card.

    --ecg measures decisions as `multires-edge stream` makes them, in every precision: sensitivity,
    specificity and predictive values with 95 % intervals, and delays in seconds.
    """
    if ecg:
        _refuse(_NOT_ECG, "is not for --ecg, which streams whole recordings; leave it out")
        from multires_edge.cli.commands.evaluate_ecg import evaluate_ecg

        if not _typed("precisions"):
            given["precisions"] = None
        evaluate_ecg(bundle, data_path, given, as_json=as_json)
        return
    _refuse(_ONLY_ECG, "is an option of --ecg, which is missing")
    from multires_edge.format.figures import EVALUATION
    from multires_edge.runtime.bundle import open_bundle
    from multires_edge.runtime.evaluation.evaluate import EvaluationOptions, compare
    from multires_edge.runtime.evaluation.figures import figures_of, under_field_conditions
    from multires_edge.runtime.evaluation.recordings import load_data, load_recordings

    options = pick(EvaluationOptions, given)
    with Progress() as progress:
        progress("reading")
        opened = open_bundle(bundle)
        leads = {name: given[name] for name in ("allow_missing", "rename")}
        network, card = opened.manifest.network, opened.manifest.card
        data = load_data(data_path, network, card, window=given["window"], **leads)
        if given["limit"] is not None:
            data = data.first(given["limit"])
        recordings = []
        if given["conditions"]:
            recordings = load_recordings(data_path, opened, given["rename"]).recordings
        results = compare(opened, data, given["precisions"], options, progress=progress)
        first, conditions = results[0], {}
        if recordings:
            leads |= {"precision": first.precision, "progress": progress}
            conditions = under_field_conditions(opened, data, recordings, options, **leads)
    if as_json:
        print_json(EVALUATION.to_json(figures_of(opened, data, results, options, conditions)))
        return
    of = f"{options.graph} graph" + (", state carried" if options.state == "carried" else "")
    records = counted(len(data), "record")
    if len(results) == 1:
        _print_one(first, f"({records}, {of}, {first.precision})")
    else:
        click.echo(f"{_NAMES[first.metric]}  ({records}, {of})")
        _print_several(results)
    if conditions:
        click.echo(f"under field conditions, {first.precision}")
        _print_conditions(conditions)


def _refuse(names: Collection[str], why: str) -> None:
    """Raise InputError if one of the options was given."""
    for given in click.get_current_context().command.params:
        if given.name in names and _typed(given.name):
            raise InputError(f"{given.opts[-1]} {why}")


def _typed(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def _print_one(result: Evaluation, of_what: str) -> None:
    within = f" {interval(result.interval)}".rstrip()
    click.echo(f"{_NAMES[result.metric]} {result.value:.4f}{within}  {of_what}")
    if result.by_class:
        within_of = result.class_intervals or {}
        print_table(
            [(name, f"{value:.4f}", interval(within_of.get(name))) for name, value in result.by_class.items()]
        )


def _print_several(results: list[Evaluation]) -> None:
    """A row for each precision."""
    classes = list(results[0].by_class or {})
    rows = [["", "value", "95 %", "difference", "95 %", "output error", *classes]]
    for result in results:
        first = result.difference is None
        rows.append(
            [
                result.precision,
                f"{result.value:.4f}",
                interval(result.interval),
                "" if first else f"{result.difference:+.5f}",
                interval(result.difference_interval, "+.5f"),
                "" if first else f"{result.relative_error:.2e}",
                *(f"{(result.by_class or {})[name]:.4f}" for name in classes),
            ]
        )
    print_figures(rows)


def _print_conditions(conditions: dict[str, ConditionFigures]) -> None:
    rows = [["", "value", "95 %", "difference", "95 %"]]
    for name, figures in conditions.items():
        value, difference = figures.value, figures.difference
        rows.append(
            [
                name,
                f"{value.value:.4f}",
                interval(value.interval),
                f"{difference.value:+.4f}",
                interval(difference.interval, "+.4f"),
            ]
        )
    print_figures(rows)
