"""TensorRT and TensorRT-RTX: read engines and run them."""
