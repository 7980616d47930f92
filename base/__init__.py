"""Errors, and reading and writing of files. Imports nothing of the package."""
