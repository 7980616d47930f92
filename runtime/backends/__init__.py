"""Ways to run a bundle's graphs: one module or folder per backend."""
