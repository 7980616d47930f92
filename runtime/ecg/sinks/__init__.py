"""Where decisions go besides the output: brokers, servers and annotation files."""
