"""The bedside page: a small server on the device, and a page that shows a running session."""
