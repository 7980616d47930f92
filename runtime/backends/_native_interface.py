"""What the engine was compiled with, if it fits these files. Written by package/interface.py."""

INTERFACE = "d4fe142e293f6cea"
