"""What the engine was compiled with, if it fits these files. Written by package/interface.py."""

INTERFACE = "d8192d415dc32bf8"
