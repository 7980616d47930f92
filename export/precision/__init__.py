"""What other precisions than float32 change in a network, before any graph is built."""
