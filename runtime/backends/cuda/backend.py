"""The backend ``cuda``: streams on an NVIDIA GPU without TensorRT."""

from __future__ import annotations

from pathlib import Path

from multires_edge.base.errors import BackendError
from multires_edge.format.manifest import Manifest
from multires_edge.runtime.backends.cuda.kernel import ENTRY, compile_kernel
from multires_edge.runtime.backends.cuda.network import Network
from multires_edge.runtime.backends.cuda.nvrtc import find_nvrtc
from multires_edge.runtime.backends.cuda.plan import make_plan, rows_for
from multires_edge.runtime.backends.cuda.stepper import CudaStepper
from multires_edge.runtime.backends.cuda.weights_file import WeightsFile
from multires_edge.runtime.backends.device import driver
from multires_edge.runtime.backends.device.cuda import CudaDevice
from multires_edge.runtime.backends.device.driver import Driver
from multires_edge.runtime.backends.device.gpu import find_gpu, why_no_gpu
from multires_edge.runtime.backends.native_weights import (
    check_metadata,
    check_states,
    read_weights,
    states_of,
    window_of,
)
from multires_edge.runtime.backends.protocol import Backend, RunOptions
from multires_edge.runtime.backends.stream_runner import StreamRunner


class CudaBackend(Backend):
    """Runs native weights on the first CUDA device, in the precisions in which the bundle has them."""

    name = "cuda"
    ability = "stream on an NVIDIA GPU by one kernel"
    checked_as = "kernel on the GPU"
    needs_gpu = True
    place = "the first device of CUDA_VISIBLE_DEVICES"
    changes_pooling = True

    def missing(self) -> str | None:
        reason = why_no_gpu()
        if reason is not None:
            return reason
        try:
            find_nvrtc(Driver().version)
        except BackendError as error:
            return str(error)
        return None

    def load(self) -> None:
        Driver()

    def precisions(self, folder: Path, manifest: Manifest) -> list[str]:
        """Those of the native weights; none on a machine that has no CUDA driver at all."""
        return [] if driver.load_library() is None else list(manifest.native)

    def make_stepper(self, folder: Path, manifest: Manifest, batch: int, options: RunOptions) -> CudaStepper:
        precision, pooling = options.precision, options.pooling
        window = None if pooling is None else window_of(pooling)
        network = open_network(folder, manifest, precision, window)
        path = folder / manifest.native[precision].file
        check_states(network.state_shapes(batch), path, states_of(manifest, precision, pooling), batch)
        return on_device(network, batch)

    def make_runner(self, folder: Path, manifest: Manifest, options: RunOptions) -> StreamRunner:
        network = open_network(folder, manifest, options.precision, window=0)
        return StreamRunner(lambda samples: on_device(network, samples.shape[1]).run(samples), manifest)


def open_network(folder: Path, manifest: Manifest, precision: str, window: int | None) -> Network:
    """The network of a bundle's native weights. Raises BackendError or BundleError."""
    content, path = read_weights(folder, manifest, precision)
    file = WeightsFile(content, path)
    check_metadata(file.metadata.get, path, manifest, precision)
    network = Network(file, window)
    if network.window and "max" in network.poolings:
        raise BackendError("the kernel takes no maximum of a window; use backend native")
    return network


def on_device(network: Network, batch: int) -> CudaStepper:
    """Streams of a network on the first device, by a kernel for both. Raises BackendError."""
    gpu = find_gpu()
    plan = make_plan(network, rows_for(batch, gpu.multiprocessors))
    code = compile_kernel(plan, find_nvrtc(Driver().version), gpu.compute_capability)
    device = CudaDevice()
    try:
        return CudaStepper(device, device.function(device.load(code), ENTRY), network, plan, batch)
    except BaseException:
        device.close()
        raise
