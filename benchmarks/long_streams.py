"""The error of a stream after a thousand steps and after a million, for each precision and type of queues.

    python benchmarks/long_streams.py [CHECKPOINT CARD RECORDS]

Runs the native engine over records, one after the other, again and again, with a pooling window of ten
seconds, and compares a thousand steps at each place with the network in float64. The ranges of int8 are
of the same records.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from multires_edge.cli.terminal import print_table
from multires_edge.export import Int8Options, export_bundle
from multires_edge.format.card import read_card
from multires_edge.format.pooling import Window
from multires_edge.models.loading import load_checkpoint
from multires_edge.runtime import open_bundle
from multires_edge.runtime.evaluation.recordings import load_data

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from multires_edge.models.network import MultiresNet

DEMO = Path(__file__).parents[1] / "models" / "demo"
WINDOW, COMPARED = 1000, 1000
ENDS = (2_000, 10_000, 100_000, 1_000_000)


def main(checkpoint: Path, card: Path, records: Path) -> None:
    """Export in every precision, stream, compare, print."""
    net = load_checkpoint(checkpoint)
    data = load_data(records, net.config, read_card(card, net.config)).inputs[:]
    inputs = np.ascontiguousarray(np.concatenate(list(data), axis=-1)[None])
    inputs = np.tile(inputs, -(-ENDS[-1] // inputs.shape[-1]))[..., : ENDS[-1]]
    rows = [("weights", "queues", *(f"rms, {end:,}" for end in ENDS), *(f"max, {end:,}" for end in ENDS))]
    expected = [exact(net, inputs, end) for end in ENDS]
    with tempfile.TemporaryDirectory() as folder:
        for quantize in ("mixing", "mixing,queues"):
            bundle = export_bundle(
                checkpoint,
                Path(folder) / quantize,
                card=card,
                pool=f"window:{WINDOW}",
                precisions=("fp32", "fp16", "int8"),
                int8=Int8Options(data=records, parts=quantize.split(",")),
            )
            for precision in ("fp32", "fp16", "int8") if quantize == "mixing" else ("int8",):
                outputs = stretches(bundle.path, precision, inputs)
                errors = [y - reference for y, reference in zip(outputs, expected, strict=True)]
                queues = bundle.manifest.graph("step", precision).states[-1].dtype
                rms = (f"{np.sqrt(np.mean(np.square(error))):.2e}" for error in errors)
                rows.append((precision, queues, *rms, *(f"{np.abs(error).max():.2e}" for error in errors)))
    print_table(rows, frozenset(range(2, 10)))


def exact(net: MultiresNet, inputs: NDArray[np.float32], end: int) -> NDArray[np.float64]:
    """Outputs of the steps before ``end`` in float64, (d_output, COMPARED)."""
    import torch

    start = max(0, end - COMPARED - net.config.receptive_field - WINDOW)
    with torch.no_grad():
        x = torch.from_numpy(np.ascontiguousarray(inputs[..., start:end])).double()
        y: NDArray[np.float64] = net.double().stepwise(x, Window(WINDOW)).numpy()[0, :, -COMPARED:]
    net.float()
    return y


def stretches(bundle: Path, precision: str, inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """One stream's outputs of the steps before each of ENDS."""
    stream = open_bundle(bundle).stream(backend="native", precision=precision)
    found = []
    for start in range(0, ENDS[-1], COMPARED):
        y = stream.run(np.ascontiguousarray(inputs[..., start : start + COMPARED]))
        if start + COMPARED in ENDS:
            found.append(y[0])
    return found


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    main(*(given or [DEMO / "ckpt.pth", DEMO / "card.json", DEMO / "records.npz"]))
