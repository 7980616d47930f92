"""What a window means: three ways to pool a stream that never ends, measured on real recordings.

    python -m benchmarks.windows BUNDLE --data ptbxl_test.npz --thresholds-from ptbxl_other.npz \
        [--record mitdb/208 --lead II=MLII] [--plot windows.svg]

Records of a data file (x_uv or x, and labels, of one length each) come as patients that follow one another
on one device: each record is repeated for 32.5 s, so that a stream that starts over every ten seconds
meets the changes at four phases. ``--record`` adds a long recording, without labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.palette import LIGHT
from multires_edge.runtime import Bundle, EcgStream, open_bundle
from multires_edge.runtime.ecg.decision import Decision
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Samples
from multires_edge.runtime.ecg.streams import preprocessing_of
from multires_edge.runtime.evaluation.diagnostic import youden_threshold
from multires_edge.runtime.evaluation.pieces import Recording
from multires_edge.runtime.evaluation.recordings import LabelledRecordings, load_recordings
from multires_edge.runtime.evaluation.scoring import MacroAuroc, bootstrap, interval

EVERY = 0.5
STAY = 32.5  # seconds that a patient stays
ORDERS = 3
RESAMPLES = 1000


@dataclass(frozen=True)
class Way:
    """A way to pool. ``restart``: somebody tells the stream when the patient changes. ``hold``: only what
    is decided on a whole window counts, until the next one is."""

    name: str
    pool: str
    restart: bool = False
    hold: bool = False


WAYS = [
    Way("window:10s, restarted at the change", "window:10s", restart=True),
    Way("window:10s", "window:10s"),
    Way("reset:10s", "reset:10s"),
    Way("reset:10s, whole windows only", "reset:10s", hold=True),
    Way("cumulative", "cumulative"),
]


def main() -> None:
    """Parse, measure, print the tables, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--thresholds-from", type=Path, required=True)
    parser.add_argument("--record")
    parser.add_argument("--lead", action="append", default=[])
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle)
    other = load_recordings(arguments.thresholds_from, bundle)
    data = load_recordings(arguments.data, bundle)
    chosen = alone(bundle, other)[:, -1]
    thresholds = np.array([youden_threshold(*each) for each in zip(chosen.T, other.positive.T, strict=True)])
    print("thresholds:", ", ".join(f"{a} {b:.3f}" for a, b in zip(bundle.labels or [], thresholds)))  # noqa: B905

    reference = alone(bundle, data)
    single_table(reference, data.positive, thresholds)
    curves = patients_table(bundle, data, reference[:, -1], thresholds)
    traces = None
    if arguments.record:
        rename = dict(pair.split("=") for pair in arguments.lead)
        traces = record_table(bundle, arguments.record, rename, thresholds)
    if arguments.plot:
        plot(arguments.plot, curves, traces, bundle.labels or [])


def read_records(recordings: Sequence[Recording]) -> NDArray[np.float64]:
    """Recordings of one length as (records, channels, time), in their unit."""
    return np.stack(
        [
            np.concatenate([part.values for part in recording.parts() if isinstance(part, Samples)]).T
            for recording in recordings
        ]
    )


def alone(bundle: Bundle, data: LabelledRecordings) -> NDArray[np.float64]:
    """Each record from a fresh stream: probabilities (records, decisions, labels)."""
    streams = [decide(bundle, [signal], "cumulative") for signal in signals_of(data)]
    return np.stack([probabilities(stream) for stream in streams])


def decide(bundle: Bundle, parts: Sequence[NDArray[np.float64]], pool: str) -> list[Decision]:
    """Samples (n, channels) at the card's rate and in its unit, one part behind the other."""
    card = preprocessing_of(bundle)
    stream = EcgStream(
        bundle, leads=card.channels, rate=card.sampling_rate, unit=card.unit, every=EVERY, pool=pool
    )
    return [d for part in parts for d in stream.feed(part)] + stream.finish()


def signals_of(data: LabelledRecordings) -> list[NDArray[np.float64]]:
    """Records as a device would give them: (time, channels), in the card's unit."""
    return list(np.moveaxis(read_records(data.recordings), 1, 2))


def probabilities(decisions: Sequence[Decision]) -> NDArray[np.float64]:
    """(decisions, labels)."""
    return np.array([list((d.probabilities or {}).values()) for d in decisions])


def single_table(reference: NDArray[np.float64], labels: NDArray[Any], thresholds: NDArray[Any]) -> None:
    """How good a decision is, by how much of the record it has heard."""
    metric = MacroAuroc(labels, [])
    print("\n| seconds heard | macro AUROC | agreement with 10 s |\n| ---: | ---: | ---: |")
    for heard in (0.5, 1, 2, 3, 5, 7, 10):
        p = reference[:, round(heard / EVERY) - 1]
        same = ((p >= thresholds) == (reference[:, -1] >= thresholds)).mean()
        print(f"| {heard:g} | {metric.value(p):.4f} | {same:.1%} |")


def patients_table(
    bundle: Bundle, data: LabelledRecordings, reference: NDArray[np.float64], thresholds: NDArray[Any]
) -> dict[str, NDArray[np.float64]]:
    """Patients behind one another, in several orders; macro AUROC by the time since the change."""
    labels = data.positive
    steps = round(STAY / EVERY)
    signals = signals_of(data)
    rate = preprocessing_of(bundle).sampling_rate
    stay = round(STAY * rate)
    stays = [np.tile(signal, (-(-stay // len(signal)), 1))[:stay] for signal in signals]
    # The orders side by side, so that records are what is drawn anew: a mean of AUROCs, each of one order.
    metric = MacroAuroc(np.tile(labels, ORDERS), [])
    alone_in_all = np.tile(reference, ORDERS)
    print(
        "\n| patients in turn | AUROC after 2 s | 5 s | 10 s | 30 s | 30 s, less alone, 95 % "
        "| agreement after 10 s | 30 s | delay, median | p90 | never | flips a minute |"
        "\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    decided = reference >= thresholds
    curves = {}
    for way in WAYS:
        runs: list[NDArray[np.float64]] = []
        changes: list[NDArray[np.bool_]] = []
        for order in range(ORDERS):
            permutation = np.random.default_rng(order).permutation(len(stays))
            before = np.empty_like(permutation)
            before[permutation] = np.roll(permutation, 1)
            changes.append(decided[before] != decided)
            if way.restart and order:
                runs.append(runs[0])
                continue
            if way.restart:
                p = np.stack([probabilities(decide(bundle, [s], way.pool)) for s in stays])
            else:
                # One patient more in front: the first has somebody before them, as the others have.
                parts = [stays[permutation[-1]], *(stays[i] for i in permutation)]
                decisions = decide(bundle, parts, way.pool)
                if way.hold:
                    decisions = held(decisions)
                p = probabilities(decisions).reshape(len(parts), steps, -1)[1:][np.argsort(permutation)]
            runs.append(p)
        p = np.concatenate(runs)
        beside = np.concatenate(runs, -1)
        curves[way.name] = np.array([metric.value(beside[:, k]) for k in range(steps)])
        two, five, ten, thirty = (round(since / EVERY) - 1 for since in (2, 5, 10, 30))
        same = (p >= thresholds) == np.tile(decided, (ORDERS, 1))[:, None]
        drawn = bootstrap(metric, [beside[:, thirty], alone_in_all], RESAMPLES)[..., 0]
        curve = curves[way.name]
        low, high = interval(drawn[:, 0] - drawn[:, 1])
        yes = p >= thresholds
        flips = (yes[:, 1:] != yes[:, :-1])[:, round(10 / EVERY) :].any(2).mean() * 60 / EVERY
        delays = delay(same)[np.concatenate(changes)]
        print(
            f"| `{way.pool}`{way.name.removeprefix(way.pool)} | {curve[two]:.4f} "
            f"| {curve[five]:.4f} | {curve[ten]:.4f} | {curve[thirty]:.4f} "
            f"| {curve[thirty] - metric.value(alone_in_all):+.4f} [{low:+.4f}, {high:+.4f}] "
            f"| {same[:, ten].mean():.1%} | {same[:, thirty].mean():.1%} | {seconds(delays, 50)} "
            f"| {seconds(delays, 90)} | {np.isinf(delays).mean():.1%} | {flips:.2f} |",
            flush=True,
        )
    return curves


def held(decisions: Sequence[Decision]) -> list[Decision]:
    """The last decision on a whole window in place of each; the first ones stay as they are."""
    whole = max(d.seen for d in decisions)
    kept: Decision | None = None
    out = []
    for decision in decisions:
        if decision.seen == whole:
            kept = decision
        out.append(kept or decision)
    return out


def delay(same: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Seconds from the change until a decision is that of the patient alone, and is for five seconds.

    same (patients, decisions, labels); infinite where it never is. Returns (patients, labels).
    """
    windows = np.lib.stride_tricks.sliding_window_view(same, round(5 / EVERY), axis=1)
    stays = np.all(windows, axis=-1)
    return np.where(np.any(stays, axis=1), (np.argmax(stays, 1) + 1) * EVERY, np.inf)


def seconds(delays: NDArray[np.float64], percentile: float) -> str:
    """A percentile of delays in words."""
    value = np.percentile(delays, percentile, method="inverted_cdf")
    return f"{value:.1f} s" if np.isfinite(value) else "never"


def record_table(
    bundle: Bundle, record: str, rename: Mapping[str, str], thresholds: NDArray[Any]
) -> dict[str, NDArray[np.float64]]:
    """One long recording: how far the ways agree, each with the other on the same ten seconds."""
    source = open_source(record)
    parts = []
    while not source.ended:
        parts += [piece.values for piece in source.read(100_000) if isinstance(piece, Samples)]
    spec = source.signal
    traces = {}
    for pool in ("window:10s", "reset:10s", "cumulative"):
        stream = EcgStream(
            bundle, leads=spec.leads, rate=spec.rate, unit=spec.unit, every=EVERY,
            pool=pool, rename=rename, allow_missing=True,
        )  # fmt: skip
        traces[pool] = probabilities([d for part in parts for d in stream.feed(part)] + stream.finish())
    whole = slice(round(10 / EVERY) - 1, None, round(10 / EVERY))
    reference = traces["reset:10s"][whole]
    print(
        f"\n{record}: {len(reference)} windows of 10 s\n\n| | mean difference of probability | largest "
        "| agreement | rank correlation over time | flips a minute |"
        "\n| --- | ---: | ---: | ---: | ---: | ---: |"
    )
    for pool, p in traces.items():
        yes = p >= thresholds
        flips = (yes[1:] != yes[:-1]).any(1).mean() * 60 / EVERY
        difference = np.abs(p[whole] - reference)
        same = (yes[whole] == (reference >= thresholds)).mean()
        ranks = np.mean([rank_correlation(a, b) for a, b in zip(p[whole].T, reference.T, strict=True)])
        print(
            f"| `{pool}` | {difference.mean():.3f} | {difference.max():.3f} | {same:.1%} | {ranks:.2f} "
            f"| {flips:.2f} |"
        )
    return traces


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Spearman's, of values without ties."""
    return float(np.corrcoef(np.argsort(np.argsort(a)), np.argsort(np.argsort(b)))[0, 1])


def plot(
    path: Path,
    curves: Mapping[str, NDArray[Any]],
    traces: Mapping[str, NDArray[Any]] | None,
    labels: list[str],
) -> None:
    """Macro AUROC by the time since the patient changed, and some minutes of the long recording."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    # The same figure is the same file, and small: text stays text.
    plt.rcParams |= {"svg.hashsalt": "windows", "svg.fonttype": "none"}
    figure, axes = plt.subplots(1, 2 if traces else 1, figsize=(10 if traces else 5.5, 3.4), squeeze=False)
    left = axes[0][0]
    shades = dict(
        zip(("window:10s", "reset:10s", "cumulative"), (LIGHT.series[i] for i in (0, 1, 4)), strict=True)
    )
    for name, curve in curves.items():
        color, way = shades[name.partition(",")[0]], next(way for way in WAYS if way.name == name)
        style = ":" if way.restart else "--" if way.hold else "-"
        left.plot((np.arange(len(curve)) + 1) * EVERY, curve, style, label=name, linewidth=1.3, color=color)
    left.set(xlabel="seconds since the patient changed", ylabel="macro AUROC", xlim=(0, STAY))
    left.legend(fontsize=7, loc="center right", bbox_to_anchor=(1, 0.45), frameon=False)
    if traces:
        right, chosen = axes[0][1], int(np.argmax(traces["window:10s"].std(0)))
        minutes = slice(0, round(300 / EVERY))
        for name, p in traces.items():
            time = (np.arange(len(p)) + 1) * EVERY
            right.plot(time[minutes], p[minutes, chosen], label=name, linewidth=0.9, color=shades[name])
        right.set(xlabel="seconds of the recording", ylabel=f"probability of {labels[chosen]}", ylim=(0, 1))
        right.legend(fontsize=7, loc="upper right", frameon=False)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
