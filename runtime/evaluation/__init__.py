"""Data sets, metrics, and scores of a bundle on labelled data."""
