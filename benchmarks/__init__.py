"""Measurements against the alternatives, in one run; ratios carry over to other machines, times do not."""
