"""Stream 12-lead ECG through a bundle, one sample of all leads at a time, as a monitor would.

    python examples/python/classify_ecg.py BUNDLE RECORDS.npz --plots FOLDER

Prints the probability of each label after the last sample beside the true labels, and draws each
record with the running probabilities under its leads.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.palette import LIGHT, plot_style, standalone
from multires_edge.runtime import Bundle, open_bundle


def classify(bundle: Bundle, backend: str, x: NDArray[np.float32]) -> tuple[NDArray[Any], float]:
    """Feed x (leads, time) sample by sample; the probabilities (labels, time), and seconds a step."""
    stream = bundle.stream(backend=backend)
    logits = np.empty((len(bundle.labels or []), x.shape[1]), np.float32)
    started = time.perf_counter()
    for t in range(x.shape[1]):
        logits[:, t] = stream.step(np.ascontiguousarray(x[None, :, t]))[0]
    seconds = (time.perf_counter() - started) / x.shape[1]
    return 1 / (1 + np.exp(-logits)), seconds


def offsets(mv: NDArray[Any]) -> NDArray[Any]:
    """How far below the first each lead of mv (leads, time) is drawn, in mV: no two leads touch."""
    margin = 0.1 * np.ptp(mv, axis=1).max()
    rooms = mv[1:].max(axis=1) - mv[:-1].min(axis=1) + margin
    return np.concatenate([[0.0], np.cumsum(rooms)])


def draw(path: Path, bundle: Bundle, mv: NDArray[Any], chances: NDArray[Any], title: str) -> None:
    """The leads of a record in millivolt, and under them the probability of each label over time."""
    import matplotlib
    from matplotlib.figure import Figure

    preprocessing, labels = bundle.preprocessing, bundle.labels
    assert preprocessing is not None and labels is not None
    seconds = np.arange(mv.shape[1]) / preprocessing.sampling_rate
    mv = mv - np.median(mv, axis=1, keepdims=True)
    with matplotlib.rc_context(plot_style()):
        figure = Figure(figsize=(11, 12), layout="constrained", facecolor=LIGHT.panel)
        leads, running = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        for name, lead, offset in zip(preprocessing.channels, mv, offsets(mv), strict=True):
            leads.plot(seconds, lead - offset, color=LIGHT.trace, linewidth=0.8)
            leads.text(-0.15, -offset, name, ha="right", va="center", fontsize=10)
        leads.plot([seconds[-1] + 0.1] * 2, [0, 1], color=LIGHT.trace, linewidth=2, clip_on=False)
        leads.text(seconds[-1] + 0.15, 0.5, "1 mV", va="center", fontsize=9)
        leads.set_yticks([])
        leads.set_title(title)
        leads.spines[["left", "right", "top"]].set_visible(False)
        for label, curve in zip(labels, chances, strict=True):
            running.plot(seconds, curve, linewidth=1.8, label=f"{label} {curve[-1]:.2f}")
        running.set_ylim(0, 1)
        running.set_xlim(seconds[0], seconds[-1])
        running.set_xlabel("seconds")
        running.set_ylabel("probability so far")
        running.grid()
        running.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(standalone(drawn.getvalue()), encoding="utf-8")


def main() -> None:
    """Parse the arguments, classify every record, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("records", type=Path)
    parser.add_argument("--plots", type=Path, help="folder for a picture of each record")
    arguments = parser.parse_args()

    bundle = open_bundle(arguments.bundle)
    records = np.load(arguments.records)
    preprocessing, labels = bundle.preprocessing, bundle.labels
    if preprocessing is None or labels is None:
        raise SystemExit(f"{arguments.bundle}: exported without a card (multires-export --card)")
    mv = records["x_uv"] / 1000.0
    x = preprocessing.inputs(mv)  # behind the card's high-pass filter

    print("record   " + "".join(f"{label:>7}" for label in labels) + "   true labels")
    times: dict[str, list[float]] = {"step.onnx in ONNX Runtime": [], "the native engine": []}
    for i, ecg_id in enumerate(records["ecg_id"]):
        by_graph, by_engine = (classify(bundle, backend, x[i]) for backend in ("onnxruntime", "native"))
        for seconds, (_, measured) in zip(times.values(), (by_graph, by_engine), strict=True):
            seconds.append(measured)
        chances = by_graph[0]
        if not np.allclose(chances, by_engine[0], rtol=0, atol=1e-5):
            raise SystemExit(f"record {ecg_id}: the two backends do not agree")
        true = [label for label, is_set in zip(labels, records["labels"][i], strict=True) if is_set]
        row = "".join(f"{chance:7.2f}" for chance in chances[:, -1])
        print(f"{ecg_id:<9}{row}   {', '.join(true)}")
        if arguments.plots:
            title = f"PTB-XL {ecg_id} (CC BY 4.0), true: {', '.join(true)}"
            draw(arguments.plots / f"{ecg_id}.svg", bundle, mv[i], chances, title)
    rate = preprocessing.sampling_rate
    for name, seconds in times.items():
        step = np.median(seconds)
        print(f"{name}: {step * 1e6:.0f} microseconds a step, {1 / step / rate:.0f} times real time")
    if arguments.plots:
        print(f"plots: {arguments.plots}")


if __name__ == "__main__":
    main()
