"""TensorRT and TensorRT-RTX: building engines, and reading them back."""
