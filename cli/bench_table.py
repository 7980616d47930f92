"""A benchmark's JSON object as tables for a person."""

from __future__ import annotations

from typing import Any

import click

from multires_edge.cli.terminal import human_bytes, print_table


def _sizes(model: dict[str, Any]) -> str:
    return (
        f"{model['task']}, d_model {model['d_model']}, {model['n_layers']} layers, "
        f"K = {model['kernel_size']}, depth {model['depth']}"
    )


def print_benchmark(entry: dict[str, Any]) -> None:
    """Print the result of :func:`multires_edge.runtime.bench.measure.benchmark`."""
    model = entry["model"]
    what = f"your module {model['module']}" if "module" in model else _sizes(model)
    click.echo(f"{entry['bundle']}: {what}; threads: {entry['threads']}")
    results = entry["results"]
    _section(["one step, µs", "p50", "p99", "max", "to roofline"], _steps(results))
    paced = ("answer", "cold", "cold_answer", "paced", "paced_answer")
    _section(
        ["sample to answer, µs, p50", "step", *(kind.replace("_", " ") for kind in paced)],
        [
            [_name(r), *(f"{r['step'][kind]['p50'] * 1e6:.1f}" for kind in ("python", *paced))]
            for r in results
        ],
    )
    counts = sorted({call["streams"] for result in results for call in result["streams"]})
    _section(
        ["steps per second, by streams in one call", *map(str, counts), f"gain at {counts[-1]}"],
        [[_name(result), *_rates(result, counts)] for result in results],
    )
    if whole := [result for result in results if result["full"]]:
        _section(
            [f"whole sequence of {whole[0]['full']['steps']:,} steps, ms", "p50", "p99", "max", "steps/s"],
            [[_name(r), *_three(r["full"], 1e3, 2), f"{r['full']['steps_per_second']:,.0f}"] for r in whole],
        )
    kinds = ("open", "import", "stream", "first_step")
    _section(
        ["start in a new process, ms", "bundle", "library", "stream", "first step"],
        [
            [_name(r), *(f"{r['load'][f'{kind}_seconds'] * 1e3:.2f}" for kind in kinds)]
            for r in results
            if r["load"]
        ],
    )
    _section(
        ["memory", "state", "stream in all", "library", "process"],
        [
            [
                _name(r),
                *(_size(r["memory"][f"{kind}_bytes"]) for kind in ("state", "stream", "library", "process")),
            ]
            for r in results
        ],
    )
    for precision, line in entry["rooflines"].items():
        click.echo(
            f"roofline {precision}, one thread, {line['isa']}: {line['seconds'] * 1e6:.2f} µs, by "
            f"{'reading' if line['bound'] == 'memory' else 'computing'}"
        )
        print_table(
            [
                (
                    "reading",
                    f"{line['weight_bytes'] + line['tap_bytes']:,} bytes",
                    f"at {line['bytes_per_second'] / 1e9:.1f} GB/s",
                    f"{line['read_seconds'] * 1e6:.2f} µs",
                ),
                (
                    "computing",
                    f"{line['multiply_adds']:,} multiply-adds{_in_int8(line)}",
                    f"at {line['multiply_adds_per_second'] / 1e9:.1f} G/s",
                    f"{line['compute_seconds'] * 1e6:.2f} µs",
                ),
            ],
            right=frozenset({1, 2, 3}),
        )
    for skipped in entry["skipped"]:
        click.echo(f"not measured: {skipped['what']}: {skipped['reason']}")


def _steps(results: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each language that a backend is called from; the first row has the ratio."""
    rows = []
    for result in results:
        ratio = result["step"]["to_roofline"]
        text = "-" if ratio is None else f"{ratio:.2f}"
        count = result["step"]["streams"]
        streams = "" if count == 1 else f", {count} streams"
        for way, called in (("cpp", "from C++"), ("python", f"from Python{streams}")):
            if timing := result["step"][way]:
                rows.append([f"{_name(result)}, {called}", *_three(timing, 1e6, 1), text])
                text = ""
    return rows


def _rates(result: dict[str, Any], counts: list[int]) -> list[str]:
    """Steps per second for each number of streams, and the gain for the last."""
    by_count = {call["streams"]: call for call in result["streams"]}
    rates = [f"{by_count[n]['steps_per_second']:,.0f}" if n in by_count else "-" for n in counts]
    return [*rates, f"{by_count[counts[-1]]['gain']:.2f}" if counts[-1] in by_count else "-"]


def _section(head: list[str], rows: list[list[str]]) -> None:
    print_table([head, *rows], right=frozenset(range(1, len(head))))
    click.echo()


def _name(result: dict[str, Any]) -> str:
    return f"{result['backend']} {result['precision']}"


def _three(timing: dict[str, Any], scale: float, digits: int) -> list[str]:
    return [f"{timing[key] * scale:.{digits}f}" for key in ("p50", "p99", "max")]


def _size(count: int | None) -> str:
    return "unknown" if count is None else human_bytes(max(count, 0))


def _in_int8(roofline: dict[str, Any]) -> str:
    count = roofline["int8_multiply_adds"]
    return f", {count:,} in int8" if count else ""
