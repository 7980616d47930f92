"""Decisions on archives: many long recordings, cut into pieces that any number of processes work on."""
