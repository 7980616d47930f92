"""Filters against what electrodes do: macro AUROC of networks under field conditions, by high-pass filter.

    python -m benchmarks.field_conditions out/demo.bundle [BUNDLE ...] --data ptbxl_test.npz [--plot FILE.svg]

Data are records of ten seconds at the card's rate: x_uv (or x) and labels in an .npz file. Every record goes
through the front end of a stream, as for `multires-edge evaluate` on a folder; a stream decides at its end.
The card of each bundle is measured too, whatever filter it names; ``--card-only`` measures only it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.palette import LIGHT
from multires_edge.format.card import Preprocessing
from multires_edge.format.high_pass import HighPass
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.ecg.streams import preprocessing_of
from multires_edge.runtime.evaluation.field_conditions import field_conditions
from multires_edge.runtime.evaluation.pieces import RecordPieces
from multires_edge.runtime.evaluation.recordings import load_recordings
from multires_edge.runtime.evaluation.scoring import MacroAuroc, bootstrap, interval

Inputs = Mapping[str, NDArray[np.float32]]  # by condition

FILTERS: list[HighPass | None] = [
    None,
    *(HighPass("butterworth", corner, order=1) for corner in (0.05, 0.25, 0.5)),
    *(HighPass("butterworth", corner, order=2) for corner in (0.1, 0.5)),
    *(HighPass("linear-phase", 0.5, delay=delay) for delay in (1.0, 2.0)),
]
RESAMPLES = 1000
ROWS = 32  # streams in a batch
# What offsets may cost a bundle with a filter.
LIMIT = 0.003


@dataclass(frozen=True)
class Outcome:
    """Logits (records, labels) of a network behind a filter: by condition, and ``lost`` without each lead."""

    logits: Mapping[str, NDArray[Any]]
    lost: Sequence[NDArray[Any]]

    def areas(self, metric: MacroAuroc) -> dict[str, float]:
        """The macro AUROC of each condition."""
        areas = {name: metric.value(logits) for name, logits in self.logits.items()}
        lost = [metric.value(logits) for logits in self.lost]
        return areas | {"one lead lost, mean": float(np.mean(lost)), "worst": min(lost)}


def main() -> None:
    """Parse, measure, print a table for each bundle, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--card-only", action="store_true")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    bundles = {path.stem: open_bundle(path) for path in arguments.bundles}
    own = {name: preprocessing_of(bundle).high_pass for name, bundle in bundles.items()}
    filters = dict.fromkeys([*([] if arguments.card_only else FILTERS), *own.values()])
    outcomes: dict[str, dict[HighPass | None, Outcome]] = {name: {} for name in bundles}
    metrics = {}
    for high_pass in filters:
        inputs: dict[Preprocessing, Inputs] = {}  # networks with one card share them
        for name, bundle in bundles.items():
            card = replace(preprocessing_of(bundle), high_pass=high_pass)
            labelled = load_recordings(arguments.data, bundle)
            metrics[name] = MacroAuroc(labelled.positive, bundle.class_names)
            if card not in inputs:
                inputs[card] = {
                    each.name: RecordPieces(each.recordings, card, each.recordings[0].length)[:]
                    for each in field_conditions(labelled.recordings)
                }
            outcomes[name][high_pass] = measure(bundle, inputs[card])
            areas = outcomes[name][high_pass].areas(metrics[name])
            print(name, high_pass, {what: round(area, 4) for what, area in areas.items()}, file=sys.stderr)
    for name in bundles:
        report(name, outcomes[name], metrics[name], own[name])
    if arguments.plot:
        plot(arguments.plot, {name: areas_of(outcomes[name], metrics[name]) for name in bundles})


def areas_of(
    outcomes: Mapping[HighPass | None, Outcome], metric: MacroAuroc
) -> dict[HighPass | None, dict[str, float]]:
    """The macro AUROC by filter and condition."""
    return {high_pass: outcome.areas(metric) for high_pass, outcome in outcomes.items()}


def report(
    name: str, outcomes: Mapping[HighPass | None, Outcome], metric: MacroAuroc, own: HighPass | None
) -> None:
    """Print the table of a network, and paired intervals."""
    areas = areas_of(outcomes, metric)
    columns = list(next(iter(areas.values())))
    print(f"\n{name}: macro AUROC on {len(metric.labels)} records\n")
    print(f"| filter | {' | '.join(columns)} |\n| --- |{' ---: |' * len(columns)}")
    for high_pass, values in areas.items():
        mark = " (the card's)" if high_pass == own else ""
        cells = " | ".join(f"{area:.4f}" for area in values.values())
        print(f"| {high_pass or 'none'}{mark} | {cells} |")
    report_differences(outcomes, metric, own)


def measure(bundle: Bundle, inputs: Inputs) -> Outcome:
    """The logits of a network at the end of each record, under every condition, and without each lead."""
    clean = inputs["clean"]
    # As --allow-missing gives a lead that is not connected to the network.
    without = (clean * (np.arange(clean.shape[1]) != lead)[:, None] for lead in range(clean.shape[1]))
    return Outcome(
        {what: logits(bundle, x) for what, x in inputs.items()}, [logits(bundle, x) for x in without]
    )


def logits(bundle: Bundle, x: NDArray[np.float32]) -> NDArray[Any]:
    """The logits (records, labels) of fresh streams after the last step."""
    ends = []
    for start in range(0, len(x), ROWS):
        rows = np.ascontiguousarray(x[start : start + ROWS], np.float32)
        ends.append(bundle.stream(len(rows), pool="cumulative").run(rows)[:, :, -1])
    return np.concatenate(ends)


def report_differences(
    outcomes: Mapping[HighPass | None, Outcome], metric: MacroAuroc, own: HighPass | None
) -> None:
    """Paired 95 % intervals: each filter against none, and the card's filter with and without offsets."""
    clean = {high_pass: outcome.logits["clean"] for high_pass, outcome in outcomes.items()}
    drawn = bootstrap(metric, [*clean.values(), outcomes[own].logits["offsets"]], RESAMPLES)[..., 0]
    low, high = interval(drawn[:, 0])
    print(f"\nclean, first filter: 95 % [{low:.4f}, {high:.4f}]")
    for column, high_pass in enumerate(clean):
        if column:
            low, high = interval(drawn[:, column] - drawn[:, 0])
            print(f"clean, {high_pass} less none: 95 % [{low:+.4f}, {high:+.4f}]")
    without, with_offsets = (metric.value(outcomes[own].logits[name]) for name in ("clean", "offsets"))
    low, high = interval(drawn[:, -1] - drawn[:, list(clean).index(own)])
    verdict = "within" if abs(with_offsets - without) <= LIMIT else "NOT within"
    print(
        f"the card's filter ({own or 'none'}): offsets less clean {with_offsets - without:+.5f} "
        f"[{low:+.5f}, {high:+.5f}], {verdict} {LIMIT}"
    )


def plot(path: Path, tables: Mapping[str, Mapping[HighPass | None, Mapping[str, float]]]) -> None:
    """For each network, the macro AUROC by condition, one mark per filter."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    # The same figure is the same file, and small: text stays text.
    plt.rcParams |= {"svg.hashsalt": "field conditions", "svg.fonttype": "none"}
    figure, axes = plt.subplots(
        1, len(tables), figsize=(5 * len(tables) + 1.5, 3.8), sharey=True, squeeze=False
    )
    blue, brown, green = (LIGHT.series[i] for i in (0, 1, 4))
    colours = {"none": "black", "order 1": blue, "order 2": brown, "delay": green}
    marks = {0.05: "v", 0.1: "<", 0.25: "o", 0.5: "^"}
    for axis, (name, areas) in zip(axes[0], tables.items(), strict=True):
        for number, (high_pass, values) in enumerate(areas.items()):
            text = str(high_pass or "none")
            colour = next(colour for part, colour in colours.items() if part in text)
            places = np.arange(len(values)) + (number - len(areas) / 2) * 0.08
            mark = "x" if high_pass is None else marks.get(high_pass.corner, "s")
            fill = "none" if high_pass and high_pass.delay == 2 else colour
            label = text.removeprefix("butterworth with ")
            edge = {} if high_pass is None else {"edgecolors": colour, "facecolors": fill}
            axis.scatter(places, list(values.values()), 18, marker=mark, linewidths=0.9, label=label,
                         **(edge or {"color": colour}))  # fmt: skip
        ticks = [*list(values)[:-2], "lead lost,\nmean", "lead lost,\nworst"]
        axis.set_xticks(np.arange(len(ticks)), ticks, rotation=40, ha="right", fontsize=8)
        axis.set_title(name, fontsize=10)
        axis.grid(axis="y", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("macro AUROC")
    axes[0][-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
