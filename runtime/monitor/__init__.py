"""The bedside page: a small server on the device, and what a browser draws of a running session."""
