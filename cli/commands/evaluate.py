"""``multires-edge evaluate``: the accuracy of a bundle on data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from multires_edge.base.errors import InputError
from multires_edge.cli.command import Command
from multires_edge.cli.options import FILE, PRECISION_LIST, backend_option, bundle_argument, json_option
from multires_edge.cli.recording_options import lead_options, renamed_leads, window_option
from multires_edge.cli.terminal import Progress, print_json, print_table

if TYPE_CHECKING:
    from multires_edge.runtime.evaluation.evaluate import Evaluation

_NAMES = {
    "bits_per_dimension": "bits per dimension",
    "accuracy": "accuracy",
    "auroc_macro": "macro AUROC",
}
_NOT_ECG = {
    "graph": "--graph",
    "state": "--state",
    "resamples": "--bootstrap",
    "limit": "--limit",
    "batch": "--batch",
    "window": "--window",
}
_ONLY_ECG = {
    "thresholds_from": "--thresholds-from",
    "thresholds": "--threshold",
    "pool": "--pool",
    "every": "--every",
}


@click.command(cls=Command)
@bundle_argument
@click.option(
    "--data",
    "data_file",
    type=FILE,
    metavar="PATH",
    required=True,
    help="An .npz (x, x_uv, x_u8 or tokens, and labels for classification), or a folder of recordings and a "
    "labels.csv.",
)
@click.option(
    "--graph",
    type=click.Choice(["full", "step"]),
    default="full",
    show_default=True,
    help="Run whole sequences, or stream each of them step by step.",
)
@backend_option
@click.option(
    "--precision",
    type=PRECISION_LIST,
    default="fp32",
    show_default=True,
    metavar="LIST",
    help="Precisions to measure, separated by commas; each is compared with the first.",
)
@click.option(
    "--state",
    type=click.Choice(["reset", "carried"]),
    default="reset",
    show_default=True,
    help="Whether a stream starts over at every record, or keeps its state.",
)
@click.option(
    "--bootstrap",
    "resamples",
    type=click.IntRange(1),
    metavar="N",
    help="Resample the records N times, for 95 % intervals.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N records.")
@click.option(
    "--batch",
    type=click.IntRange(1),
    metavar="N",
    help="Records per call, or streams with --state carried  [default: 16, or 1 stream]",
)
@json_option
@click.option("--ecg", is_flag=True, help="Measure decisions from electrodes; see docs/disclosure.md.")
@click.option(
    "--thresholds-from",
    type=FILE,
    metavar="DATA",
    help="With --ecg: choose the threshold of each class on these other data  [default: 0.5]",
)
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="LABEL=P",
    help="With --ecg: a class's threshold.",
)
@click.option("--pool", metavar="POOL", help="With --ecg: as in stream.")
@click.option("--every", default="0.5s", show_default=True, metavar="TIME", help="With --ecg: as in stream.")
@window_option
@lead_options
@click.pass_context
def evaluate(
    context: click.Context,
    bundle: Path,
    data_file: Path,
    graph: str,
    backend: str,
    precision: tuple[str, ...],
    state: str,
    resamples: int | None,
    limit: int | None,
    batch: int | None,
    as_json: bool,
    ecg: bool,
    thresholds_from: Path | None,
    thresholds: tuple[str, ...],
    pool: str | None,
    every: str,
    window: float | None,
    allow_missing: bool,
    renamed: tuple[str, ...],
) -> None:
    """Measure BUNDLE's accuracy on data.

    Autoregressive bundles: bits per dimension of the images. Classification: accuracy for labels (n,),
    macro AUROC for labels (n, classes) of 0 and 1. Further precisions are compared with the first: the
    difference of the metric, and the sum of |logits - first logits| divided by the sum of |first logits|.

    --ecg measures decisions as `multires-edge stream` makes them, in every precision: sensitivity,
    specificity and predictive values with 95 % intervals, and delays in seconds.
    """
    if ecg:
        _refuse(context, _NOT_ECG, "is not for --ecg, which streams whole recordings; leave it out")
        from multires_edge.cli.commands.evaluate_ecg import evaluate_ecg

        evaluate_ecg(
            bundle, data_file, thresholds=thresholds, thresholds_from=thresholds_from,
            precisions=precision if _typed(context, "precision") else None, as_json=as_json,
            pool=pool, every=every, allow_missing=allow_missing, rename=renamed_leads(renamed),
            backend=backend,
        )  # fmt: skip
        return
    _refuse(context, _ONLY_ECG, "is an option of --ecg, which is missing")
    from multires_edge.runtime.bundle import open_bundle
    from multires_edge.runtime.evaluation import evaluate as evaluation
    from multires_edge.runtime.evaluation.loading import load_data

    with Progress() as progress:
        progress("reading")
        opened = open_bundle(bundle)
        data = load_data(
            data_file, opened.manifest.model, opened.manifest.card,
            window=window, allow_missing=allow_missing, rename=renamed_leads(renamed),
        )  # fmt: skip
        if limit is not None:
            data = data.first(limit)
        results = evaluation.compare(
            opened,
            data,
            precision,
            graph=graph,
            backend=backend,
            state=state,
            batch=batch,
            resamples=resamples or 0,
            progress=progress,
        )
    if as_json:
        first = results[0]
        print_json(
            {
                "bundle": str(bundle),
                "data": str(data_file),
                "graph": graph,
                "backend": backend,
                "precision": first.precision,
                "state": state if graph == "step" else None,
                "records": len(data),
                "metric": first.metric,
                "value": first.value,
                "by_class": first.by_class,
                "results": [_entry(result) for result in results],
            }
        )
        return
    records = f"{len(data)} record{'s' if len(data) > 1 else ''}"
    of = f"{graph} graph" + (", state carried" if state == "carried" else "")
    if len(results) == 1:
        _print_one(results[0], f"({records}, {of}, {results[0].precision})")
    else:
        click.echo(f"{_NAMES[results[0].metric]}  ({records}, {of})")
        _print_several(results)


def _refuse(context: click.Context, options: dict[str, str], why: str) -> None:
    """Raise InputError if one of the options was given."""
    for name, option in options.items():
        if _typed(context, name):
            raise InputError(f"{option} {why}")


def _typed(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _entry(result: Evaluation) -> dict[str, Any]:
    keys = (
        "precision",
        "value",
        "difference",
        "relative_error",
        "interval",
        "difference_interval",
        "by_class",
    )
    return {key: getattr(result, key) for key in keys}


def _print_one(result: Evaluation, of_what: str) -> None:
    within = "" if result.interval is None else f" {_range(result.interval)}"
    click.echo(f"{_NAMES[result.metric]} {result.value:.4f}{within}  {of_what}")
    if result.by_class:
        print_table([(name, f"{value:.4f}") for name, value in result.by_class.items()])


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
                "" if result.interval is None else _range(result.interval),
                "" if first else f"{result.difference:+.5f}",
                "" if result.difference_interval is None else _range(result.difference_interval, "+.5f"),
                "" if first else f"{result.relative_error:.2e}",
                *(f"{(result.by_class or {})[name]:.4f}" for name in classes),
            ]
        )
    shown = [column for column in zip(*rows, strict=True) if any(column[1:])]
    print_table(list(zip(*shown, strict=True)), frozenset(range(1, len(shown))))


def _range(bounds: tuple[float, float], form: str = ".4f") -> str:
    return f"[{bounds[0]:{form}}, {bounds[1]:{form}}]"
