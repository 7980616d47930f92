"""What a kit runs on the device: plain Python and numpy, copied into the archive as it is.

Nothing here imports the rest of the package, and relative imports let it run where that is not installed.
Python 3.10 and numpy 1.21 are enough. ``check_device.py`` starts it.
"""
