"""The device kit: graphs and reference outputs in one archive, with a script that checks them on a device."""
