"""The ring kernels: one source, compiled for a driver on this host and for every GPU, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from multires_edge.runtime.backends.tensorrt.device import RING_ACCESS, Device, RingMove
from multires_edge.runtime.backends.tensorrt.host import HostDevice
from multires_edge.runtime.backends.tensorrt.rings import RingDevice, kernel_names, word_bytes
from tests.runtime.backends.device.fake_driver import FakeCuda
from tests.runtime.backends.tensorrt.nvrtc import PTX, compile_ptx, compile_rings

ARCHITECTURES = ("75", "80", "86", "87", "89", "90", "100", "110", "120", "121")


def roll(
    device: Device, rings: list[list[int]], row_bytes: int, pushed: NDArray[Any], position: NDArray[Any]
) -> tuple[NDArray[Any], ...]:
    """Push rows (steps, batch, rings, row_bytes), each after gathering at all delays; all that is left."""
    steps, batch = pushed.shape[:2]
    sizes = [batch * (max(delays) + 1) * row_bytes for delays in rings]
    memory = [device.allocate(size) for size in sizes]

    def table(rows: list[tuple[int, int, int]]) -> int:
        address = device.allocate(len(rows) * RING_ACCESS.itemsize)
        device.upload(address, np.array(rows, RING_ACCESS))
        device.synchronize()
        return address

    pairs = list(zip(memory, rings, strict=True))
    reads = [(address, max(delays) + 1, delay) for address, delays in pairs for delay in delays]
    writes = [(address, max(delays) + 1, 0) for address, delays in pairs]
    taps = device.allocate(batch * len(reads) * row_bytes)
    rows = device.allocate(batch * len(writes) * row_bytes)
    clocks = [device.allocate(8 * batch) for _ in range(2)]
    device.upload(clocks[0], position)
    gather = [RingMove(table(reads), len(reads), clock, taps, batch, row_bytes) for clock in clocks]
    push = [RingMove(table(writes), len(writes), clock, rows, batch, row_bytes) for clock in clocks]
    gathered = np.zeros((steps, batch, len(reads), row_bytes), np.uint8)
    for t in range(steps):
        device.gather_taps(gather[t % 2])
        device.download(gathered[t], taps)
        device.upload(rows, pushed[t])
        device.push_rows(push[t % 2], clocks[1 - t % 2])
    left = [np.zeros(size, np.uint8) for size in sizes]
    last = np.zeros(batch, np.int64)
    device.download(last, clocks[steps % 2])
    for array, address in zip(left, memory, strict=True):
        device.download(array, address)
    device.synchronize()
    return gathered, last, *left


@given(
    rings=st.lists(
        st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True).map(sorted), min_size=1, max_size=3
    ),
    width=st.integers(1, 40),
    dtype=st.sampled_from(["float32", "float16", "int8"]),
    batch=st.integers(1, 4),
    far=st.sampled_from([0, 1, 2**31 - 3, 2**62]),
    seed=st.integers(0, 9),
)
@settings(max_examples=60)
@pytest.mark.native
@pytest.mark.usefixtures("driver")
def test_the_kernels_move_what_numpy_moves(
    rings: list[list[int]], width: int, dtype: str, batch: int, far: int, seed: int
) -> None:
    random, row_bytes = np.random.default_rng(seed), width * np.dtype(dtype).itemsize
    pushed = random.integers(0, 256, (25, batch, len(rings), row_bytes), np.uint8)
    position = far + random.integers(0, 30, batch)
    check_kernels(rings, row_bytes, pushed, position)


def check_kernels(
    rings: list[list[int]], row_bytes: int, pushed: NDArray[Any], position: NDArray[Any]
) -> None:
    """Roll on the driver that is found, and on numpy."""
    device = RingDevice()
    ours = roll(device, rings, row_bytes, pushed, position)
    theirs = roll(HostDevice(), rings, row_bytes, pushed, position)
    device.close()
    assert all(np.array_equal(mine, other) for mine, other in zip(ours, theirs, strict=True))


def check_widths() -> None:
    """Words of every width on the driver that is found."""
    for row_bytes in (16, 12, 6, 5):
        pushed = np.random.default_rng(0).integers(0, 256, (25, 3, 2, row_bytes), np.uint8)
        check_kernels([[1], [2, 5]], row_bytes, pushed, np.array([0, 7, 2**40]))


@pytest.mark.native
def test_words_of_every_width(driver: FakeCuda) -> None:
    check_widths()
    assert set(driver.launched) == set(kernel_names())


def test_numpy_reads_what_was_pushed_so_long_ago() -> None:
    rings, batch, steps = [[1], [2, 5]], 2, 30
    pushed = np.random.default_rng(0).integers(0, 256, (steps, batch, len(rings), 6), np.uint8)
    gathered, last, *_ = roll(HostDevice(), rings, 6, pushed, np.array([0, 7]))
    for i, (ring, delay) in enumerate([(0, 1), (1, 2), (1, 5)]):
        assert not gathered[:delay, :, i].any()
        assert np.array_equal(gathered[delay:, :, i], pushed[:-delay, :, ring])
    assert last.tolist() == [30, 37]


@pytest.mark.parametrize(("size", "word"), [(3072, 16), (16, 16), (24, 4), (8, 4), (6, 2), (7, 1), (1, 1)])
def test_the_widest_words_that_divide_a_row(size: int, word: int) -> None:
    assert word_bytes(size) == word


class TestCompiling:
    def test_the_ptx_is_of_this_source(self) -> None:
        text = PTX.read_text()
        assert text == compile_ptx(), "python -m tests.runtime.backends.tensorrt.nvrtc writes it again"
        assert ".version 8.5\n.target sm_75\n" in text  # of CUDA 12.5 and Turing: nothing later than that

    @pytest.mark.slow
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_for_every_gpu(self, architecture: str) -> None:
        code = compile_rings(13, f"sm_{architecture}")
        assert code.startswith(b"\x7fELF")
