"""``multires-edge evaluate``: how good a bundle is on data."""

from __future__ import annotations

from pathlib import Path

import click

from multires_edge.runtime.terminal import Progress, command_errors, print_json, print_table

_NAMES = {
    "bits_per_dimension": "bits per dimension",
    "accuracy": "accuracy",
    "auroc_macro": "macro AUROC",
}


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--data",
    "data_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="An .npz: x, x_uv, x_u8 or tokens, and labels for classification.",
)
@click.option(
    "--graph",
    type=click.Choice(["full", "step"]),
    default="full",
    show_default=True,
    help="Whole sequences, or a stream from their first step to their last.",
)
@click.option("--backend", default="auto", show_default=True, metavar="NAME", help="native or onnxruntime.")
@click.option("--precision", default="fp32", show_default=True, metavar="NAME", help="Of the graph.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N records.")
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    metavar="N",
    help="Records at a time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@command_errors
def evaluate(
    bundle: Path,
    data_file: Path,
    graph: str,
    backend: str,
    precision: str,
    limit: int | None,
    batch: int,
    as_json: bool,
) -> None:
    """Measure BUNDLE on a data file.

    Autoregressive bundles: bits per dimension of the images. Classification: accuracy for labels (n,),
    macro AUROC for labels (n, classes) of 0 and 1.
    """
    from multires_edge.runtime import evaluation
    from multires_edge.runtime.bundle import open_bundle
    from multires_edge.runtime.data import load_data

    with Progress() as progress:
        progress("reading")
        opened = open_bundle(bundle)
        data = load_data(data_file, opened.manifest.model, opened.preprocessing)
        if limit is not None:
            data = data.first(limit)
        result = evaluation.evaluate(
            opened,
            data,
            graph=graph,
            backend=backend,
            precision=precision,
            batch=batch,
            progress=progress,
        )
    if as_json:
        print_json(
            {
                "bundle": str(bundle),
                "data": str(data_file),
                "graph": graph,
                "backend": backend,
                "precision": precision,
                "records": len(data),
                "metric": result.metric,
                "value": result.value,
                "by_class": result.by_class,
            }
        )
        return
    records = f"{len(data)} record{'s' if len(data) > 1 else ''}"
    click.echo(f"{_NAMES[result.metric]} {result.value:.4f}  ({records}, {graph} graph, {precision})")
    if result.by_class:
        print_table([(name, f"{value:.4f}") for name, value in result.by_class.items()])
