"""How fast a bundle runs on this machine, and how fast it could."""
