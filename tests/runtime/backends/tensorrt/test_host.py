"""The device's stand-in is at least as strict as a device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from multires_edge.base.errors import BackendError
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends.tensorrt.device import RING_ACCESS, RingMove
from multires_edge.runtime.backends.tensorrt.host import HostDevice, HostEngine


@pytest.fixture
def device() -> HostDevice:
    return HostDevice()


def test_nothing_happens_before_it_is_waited_for(device: HostDevice) -> None:
    address, array = device.allocate(8), np.arange(8, dtype=np.uint8)
    device.upload(address, array)
    back = np.zeros(8, np.uint8)
    device.download(back, address)
    assert not back.any()
    device.synchronize()
    assert np.array_equal(back, array)


def test_a_captured_graph_runs_when_it_is_replayed(device: HostDevice) -> None:
    address, array, back = device.allocate(4), np.ones(4, np.uint8), np.zeros(4, np.uint8)
    replay = device.capture(lambda: device.upload(address, array))
    device.download(back, address)
    device.synchronize()
    assert not back.any()
    replay()
    device.download(back, address)
    device.synchronize()
    assert back.all()


def test_waiting_within_a_graph(device: HostDevice) -> None:
    with pytest.raises(BackendError, match="a graph cannot synchronize"):
        device.capture(device.synchronize)


def test_memory_that_is_not_there(device: HostDevice) -> None:
    first = device.allocate(16)
    for address, size in ((first + 8, 9), (first - 8, 4), (1, 1)):
        with pytest.raises(BackendError, match="not within a single allocation"):
            device.copy(address, first, size)


def test_a_ring_longer_than_its_memory(device: HostDevice) -> None:
    ring, position, rows = device.allocate(3 * 4), device.allocate(8), device.allocate(4)
    table = np.array([(ring, 4, 1)], RING_ACCESS)
    address = device.allocate(table.nbytes)
    device.upload(address, table)
    device.synchronize()
    with pytest.raises(BackendError, match="16 bytes"):
        device.gather_taps(RingMove(address, 1, position, rows, 1, 4))


@pytest.mark.parametrize(("in_place", "shared"), [(True, False), (False, True)])
def test_memory_is_shared_where_the_engine_says_and_nowhere_else(
    device: HostDevice, exported: Path, in_place: bool, shared: bool
) -> None:
    bundle = open_bundle(exported)
    spec = bundle.manifest.graph("step", "fp32")
    engine = HostEngine(device, bundle.path, spec, in_place=in_place)
    context = engine.context()
    with pytest.raises(BackendError, match="has no address"):
        context.enqueue()
    shapes = {name: tuple(max(size, 1) for size in info.shape) for name, info in engine.tensors.items()}
    for name, shape in shapes.items():
        context.bind(name, device.allocate(1 << 12), shape)
    if shared:
        address = device.allocate(1 << 12)
        context.bind("queue_00", address, shapes["queue_00"])
        context.bind("next_queue_00", address, shapes["queue_00"])
    with pytest.raises(BackendError, match=r"queue_00.*must (not )?share memory"):
        context.enqueue()
