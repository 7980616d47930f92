"""Running a bundle's engines with TensorRT: state on the device, one CUDA graph a step."""
