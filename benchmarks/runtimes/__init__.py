"""What other runtimes compute from a bundle's graphs."""
