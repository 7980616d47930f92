"""What the engine was compiled with, if it fits these files. Written by package/interface.py."""

INTERFACE = "d9e5cc645a0c1e36"
