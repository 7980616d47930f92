"""What the engine was compiled with, if it fits these files. Written by package/interface.py."""

INTERFACE = "5cdb99463dc4022c"
