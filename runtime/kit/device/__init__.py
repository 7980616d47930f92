"""The program that a kit runs on the device: Python 3.10 and numpy 1.21, without the rest of the package.

Of the project it imports its own modules, relatively, and ``fields`` and ``specs`` of
:mod:`multires_edge.format`. The archive has those two beside its own, and writes their imports relatively.
``check_device.py`` starts it.
"""
