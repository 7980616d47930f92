"""Recognize a MultiresNet in a traced module, whatever its names and however it is written."""
