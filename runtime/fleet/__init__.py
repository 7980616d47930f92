"""Decisions on many patients by several workers, through the log of a NATS server."""
