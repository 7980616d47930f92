"""TensorRT and TensorRT-RTX: building engines, reading them back, and running them."""
