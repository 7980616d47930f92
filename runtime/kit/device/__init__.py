"""The program that a kit runs on the device: Python 3.10 and numpy 1.21, copied unchanged into the archive.

It runs without the rest of the package: every import of project code is relative and within this folder.
``check_device.py`` starts it.
"""
