"""Devices: one module for each way to connect to them."""
