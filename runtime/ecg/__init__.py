"""Recordings of the heart: reading them as the network wants them."""
