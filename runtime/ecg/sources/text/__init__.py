"""Samples as text: tables, JSON lines, and files of them."""
