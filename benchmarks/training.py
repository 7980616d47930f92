"""A step of training: layers as one filter per channel, against layers by their definition.

    python -m benchmarks.training [--d-model 64 --layers 4 --batch 32 --time 1000]

Both are the same network on the same batch, in turns; a step is forward and backward. Prints the ratio.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from statistics import median

import torch

from benchmarks.networks import PAPER_SIZE
from multires_edge.format.config import depth_for_length
from multires_edge.models import MultiresNet


def seconds(net: MultiresNet, x: torch.Tensor) -> float:
    """The time of a forward and a backward pass."""
    started = time.perf_counter()
    net(x).square().sum().backward()
    return time.perf_counter() - started


def main() -> None:
    """Parse, run in turns, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in (("d-model", 64), ("layers", 4), ("batch", 32), ("time", 1000), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    depth = depth_for_length(arguments.time, PAPER_SIZE.kernel_size)
    config = replace(PAPER_SIZE, d_model=arguments.d_model, n_layers=arguments.layers, depth=depth)
    net = MultiresNet(config)
    x = torch.randn(arguments.batch, config.channels, arguments.time)
    taken: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(arguments.rounds + 1):
        for one_filter in (True, False):
            net.train(one_filter)  # without dropout and batch norm, nothing else differs
            spent = seconds(net, x)
            if turn:
                taken[one_filter].append(spent)
    fast, slow = median(taken[True]), median(taken[False])
    print(f"{config.n_layers} layers of {config.d_model}, batch {len(x)} of {arguments.time} steps:")
    print(f"one filter {1e3 * fast:.0f} ms, definition {1e3 * slow:.0f} ms: {slow / fast:.1f} times faster")


if __name__ == "__main__":
    main()
