"""``multires-edge evaluate``: how good a bundle is on data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from multires_edge.base.errors import InputError
from multires_edge.cli.backend_option import backend_option
from multires_edge.cli.terminal import Progress, command_errors, print_json, print_table

if TYPE_CHECKING:
    from multires_edge.runtime.evaluation.evaluate import Evaluation

_NAMES = {
    "bits_per_dimension": "bits per dimension",
    "accuracy": "accuracy",
    "auroc_macro": "macro AUROC",
}
# Options of the other way to evaluate.
_NOT_ECG = {
    "graph": "--graph",
    "state": "--state",
    "resamples": "--bootstrap",
    "limit": "--limit",
    "batch": "--batch",
}
_ONLY_ECG = {
    "thresholds_from": "--thresholds-from",
    "thresholds": "--threshold",
    "pool": "--pool",
    "every": "--every",
    "allow_missing": "--allow-missing",
}


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--data",
    "data_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="An .npz: x, x_uv, x_u8 or tokens, and labels for classification. With --ecg also a folder of WFDB "
    "records and a labels.csv.",
)
@click.option(
    "--graph",
    type=click.Choice(["full", "step"]),
    default="full",
    show_default=True,
    help="Whole sequences, or a stream from their first step to their last.",
)
@backend_option
@click.option(
    "--precision",
    default="fp32",
    show_default=True,
    metavar="LIST",
    help="Precisions to measure, separated by commas, each beside the first.",
)
@click.option(
    "--state",
    type=click.Choice(["reset", "carried"]),
    default="reset",
    show_default=True,
    help="Whether a stream starts anew at every record, or runs on through them.",
)
@click.option(
    "--bootstrap",
    "resamples",
    type=click.IntRange(1),
    metavar="N",
    help="Draw the records anew N times, for 95 % intervals.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N records.")
@click.option(
    "--batch",
    type=click.IntRange(1),
    metavar="N",
    help="Records at a time, or streams that run on  [default: 16, or 1 stream]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--ecg", is_flag=True, help="Decisions from electrodes: the figures of docs/disclosure.md.")
@click.option(
    "--thresholds-from",
    type=click.Path(path_type=Path),
    metavar="DATA",
    help="With --ecg: choose each class's threshold on these other data  [default: 0.5]",
)
@click.option(
    "--threshold", "thresholds", multiple=True, metavar="LABEL=P", help="With --ecg: a class's threshold."
)
@click.option("--pool", metavar="POOL", help="With --ecg: as of stream.")
@click.option("--every", default="0.5s", show_default=True, metavar="TIME", help="With --ecg: as of stream.")
@click.option("--allow-missing", is_flag=True, help="With --ecg: as of stream.")
@click.pass_context
@command_errors
def evaluate(
    context: click.Context,
    bundle: Path,
    data_file: Path,
    graph: str,
    backend: str,
    precision: str,
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
    allow_missing: bool,
) -> None:
    """Measure BUNDLE on a data file.

    Autoregressive bundles: bits per dimension of the images. Classification: accuracy for labels (n,),
    macro AUROC for labels (n, classes) of 0 and 1. Several precisions are compared with the first: the
    difference of the metric, and the sum of |logits - those of the first| over that of |those of the first|.

    --ecg measures decisions as `multires-edge stream` makes them, in every precision: sensitivity,
    specificity and predictive values with 95 % intervals, and delays in seconds.
    """
    names = list(dict.fromkeys(name.strip() for name in precision.split(",")))
    if ecg:
        _refuse(context, _NOT_ECG, "does not go with --ecg, which streams whole recordings; leave it out")
        from multires_edge.cli.commands.evaluate_ecg import evaluate_ecg

        evaluate_ecg(
            bundle, data_file, thresholds=thresholds, thresholds_from=thresholds_from,
            precisions=names if _typed(context, "precision") else None, as_json=as_json,
            pool=pool, every=every, allow_missing=allow_missing, backend=backend,
        )  # fmt: skip
        return
    _refuse(context, _ONLY_ECG, "is an option of --ecg, which is missing")
    from multires_edge.runtime.bundle import open_bundle
    from multires_edge.runtime.evaluation import evaluate as evaluation
    from multires_edge.runtime.evaluation.dataset import load_data

    with Progress() as progress:
        progress("reading")
        opened = open_bundle(bundle)
        data = load_data(data_file, opened.manifest.model, opened.preprocessing)
        if limit is not None:
            data = data.first(limit)
        results = evaluation.compare(
            opened,
            data,
            names,
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
    """Raise InputError where one of the options was typed."""
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
    """A row a precision."""
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
