"""All that Python calls of the native engine. Importing it raises ImportError without its library."""

from multires_edge.runtime.backends._native_banks import Banks
from multires_edge.runtime.backends._native_cuda import (
    CudaPlan,
    CudaStreams,
    Nvrtc,
    rows_for,
    state_pointers,
    state_shapes,
)
from multires_edge.runtime.backends._native_library import DriverError
from multires_edge.runtime.backends._native_streams import (
    Model,
    State,
    network_source,
    time_multiply_adds,
    time_reading,
    time_steps,
)

__all__ = [
    "Banks",
    "CudaPlan",
    "CudaStreams",
    "DriverError",
    "Model",
    "Nvrtc",
    "State",
    "network_source",
    "rows_for",
    "state_pointers",
    "state_shapes",
    "time_multiply_adds",
    "time_reading",
    "time_steps",
]
