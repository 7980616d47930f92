"""The device kit: a bundle and the program that checks it on a device, in one archive."""
