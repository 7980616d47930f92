"""Model repositories for NVIDIA's Triton Inference Server."""

BACKENDS = ("native", "onnxruntime", "tensorrt")
