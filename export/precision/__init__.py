"""The changes that other precisions than float32 make in a network, before any graph is built."""
