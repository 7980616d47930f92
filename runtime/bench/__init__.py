"""Measure how fast a bundle runs on this machine, and compute how fast it could run."""
