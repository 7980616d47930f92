"""NVIDIA GPUs by their driver: which one this machine has, its memory, kernels and CUDA graphs."""
