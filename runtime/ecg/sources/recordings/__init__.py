"""Recordings in files: each format, and the source that reads any of them."""
