"""ONNX graphs of a folded network."""
